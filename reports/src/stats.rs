//! Medians and what they may be off by, without any assumption on how the figures are spread.

/// A median and its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The median.
    pub value: f64,
    /// Where it may lie: from.
    pub low: f64,
    /// To.
    pub high: f64,
    /// Whether so few rounds were made that the interval is all of them and covers less than 95 %.
    pub few: bool,
}

/// The median of some figures; nothing of none.
///
/// The interval lies between two of the ordered figures, those that the true median is between with a chance of at least 95 %: each
/// figure is above it with a chance of one half, whatever the distribution, so that the counts are binomial. Five figures or fewer cannot
/// give 95 %, and are marked.
#[must_use]
pub fn median_of(figures: &[f64]) -> Option<Estimate> {
    let mut ordered: Vec<f64> = figures.iter().copied().filter(|it| it.is_finite()).collect();
    ordered.sort_by(f64::total_cmp);
    let count = ordered.len();
    let last = count.checked_sub(1)?;
    let value = f64::midpoint(ordered[last / 2], ordered[count / 2]);
    let skip = skipped(count);
    let at = skip.unwrap_or(0);
    Some(Estimate { value, low: ordered[at], high: ordered[last - at], few: skip.is_none() })
}

/// The median of `a[i] / b[i]`: both were measured in the same round, so what the machine did meanwhile met both.
#[must_use]
pub fn ratio_of(a: &[f64], b: &[f64]) -> Option<Estimate> {
    let ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    median_of(&ratios)
}

/// How many of the ordered figures may be left out on each side; nothing when even all of them do not cover 95 %.
fn skipped(count: usize) -> Option<usize> {
    // The chance that so many of the figures or fewer are below the median.
    let (mut chance, mut below) = (0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX)), 0.0);
    let mut found = None;
    for k in 0..count / 2 {
        below += chance;
        if below > 0.025 {
            break;
        }
        found = Some(k);
        chance *= (count - k) as f64 / (k + 1) as f64;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_of_medians_are_those_of_the_tables() {
        // Order statistics for 95 %, as every textbook's table of the sign test has them (the k-th smallest, counted from 1).
        for (count, kth) in [(6, 1), (8, 1), (9, 2), (10, 2), (12, 3), (15, 4), (20, 6), (25, 8), (50, 18)] {
            assert_eq!(skipped(count), Some(kth - 1), "{count}");
        }
        for few in 0..6 {
            assert_eq!(skipped(few), None, "{few}");
        }
    }

    #[test]
    fn a_median_lies_in_its_interval_and_few_rounds_are_marked() {
        let some = median_of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((some.value, some.low, some.high, some.few), (2.0, 1.0, 3.0, true));
        let many: Vec<f64> = (1..=20).map(f64::from).collect();
        let many = median_of(&many).unwrap();
        assert_eq!((many.value, many.low, many.high, many.few), (10.5, 6.0, 15.0, false));
        assert_eq!(median_of(&[]), None);
        assert_eq!(median_of(&[f64::NAN]), None);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        // A machine that is ten times slower in one round changes no ratio.
        let ratio = ratio_of(&[20.0, 200.0, 20.0], &[2.0, 20.0, 2.0]).unwrap();
        assert_eq!((ratio.value, ratio.low, ratio.high), (10.0, 10.0, 10.0));
    }
}
