//! Drawings of figures: spreads on a logarithmic scale, and curves.

use maud::{Markup, html};

/// How many colours there are; further series repeat them and differ in shape.
const COLOURS: usize = 6;

/// One figure with where it may lie.
pub(super) struct Point {
    /// Which series: it gives colour and shape.
    pub(super) series: usize,
    /// The figure.
    pub(super) value: f64,
    /// From.
    pub(super) low: f64,
    /// To.
    pub(super) high: f64,
    /// What a pointer is told.
    pub(super) about: String,
}

/// A line of figures.
pub(super) struct PlotRow {
    /// In words.
    pub(super) title: String,
    /// The figures of all series.
    pub(super) points: Vec<Point>,
}

/// The class that gives a series its colour.
pub(super) fn colour(series: usize) -> String {
    format!("e{}", series % COLOURS)
}

/// A shape for each series, so that no one needs to tell colours apart.
pub(super) fn shape(series: usize, x: f64, y: f64) -> Markup {
    let (x, y) = (round(x), round(y));
    let class = format!("dot {}", colour(series));
    html! {
        @match series % 5 {
            0 => circle class=(class) cx=(x) cy=(y) r="5.5" {},
            1 => rect class=(class) x=(x - 5.0) y=(y - 5.0) width="10" height="10" {},
            2 => path class=(class) d={ "M" (x) " " (y - 6.5) "l6.5 12h-13z" } {},
            3 => path class=(class) d={ "M" (x) " " (y - 7.0) "l6 7l-6 7l-6-7z" } {},
            _ => path class=(class) d={ "M" (x - 6.0) " " (y - 5.5) "h12l-6 12z" } {},
        }
    }
}

/// A legend of series.
pub(super) fn legend(titles: &[String]) -> Markup {
    html! {
        ul.key { @for (series, title) in titles.iter().enumerate() {
            li { svg aria-hidden="true" width="16" height="16" { (shape(series, 8.0, 8.0)) } (title) }
        } }
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Places on a logarithmic scale.
#[derive(Clone, Copy)]
struct Log {
    low: f64,
    high: f64,
    left: f64,
    right: f64,
}

impl Log {
    /// Whole decades around the values; nothing when none is positive.
    fn around(values: impl Iterator<Item = f64>, left: f64, right: f64) -> Option<Log> {
        let positive = values.filter(|value| value.is_finite() && *value > 0.0);
        let (low, high) = positive.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        if high == 0.0 {
            return None;
        }
        let (low, high) = (low.log10().floor(), high.log10().ceil());
        Some(Log { low, high: if high > low { high } else { low + 1.0 }, left, right })
    }

    fn at(self, value: f64) -> f64 {
        let share = (value.max(f64::MIN_POSITIVE).log10() - self.low) / (self.high - self.low);
        self.left + share.clamp(0.0, 1.0) * (self.right - self.left)
    }

    fn decades(self) -> Vec<f64> {
        // Whole numbers by construction, and few.
        (self.low as i32..=self.high as i32).map(|power| 10_f64.powi(power)).collect()
    }
}

/// A time in the unit that suits.
pub(super) fn nanoseconds(value: f64) -> String {
    let (value, unit) = match value {
        value if value < 1e3 => (value, "ns"),
        value if value < 1e6 => (value / 1e3, "µs"),
        value if value < 1e9 => (value / 1e6, "ms"),
        value => (value / 1e9, "s"),
    };
    let text =
        if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned() };
    format!("{text} {unit}")
}

/// Spreads on a logarithmic scale, a row each; `unit` writes a figure.
pub(super) fn spreads(label: &str, rows: &[PlotRow], unit: impl Fn(f64) -> String) -> Markup {
    const ROW: f64 = 30.0;
    const TOP: f64 = 30.0;
    const WIDTH: f64 = 960.0;
    let all = || rows.iter().flat_map(|row| &row.points);
    let values = all().flat_map(|point| [point.low, point.value, point.high]);
    let Some(scale) = Log::around(values, 290.0, WIDTH - 50.0) else { return html! {} };
    let height = TOP + ROW * rows.len() as f64 + 8.0;
    html! {
        svg role="img" aria-label=(label) width=(WIDTH) height=(round(height)) viewBox={ "0 0 " (WIDTH) " " (round(height)) } {
            @for decade in scale.decades() {
                line.grid x1=(round(scale.at(decade))) x2=(round(scale.at(decade))) y1=(TOP - 8.0) y2=(round(height - 4.0)) {}
                text.soft.mid x=(round(scale.at(decade))) y="14" { (unit(decade)) }
            }
            @for (at, row) in rows.iter().enumerate() {
                @let y = TOP + ROW * (at as f64 + 0.5);
                text.end x="278" y=(round(y + 4.0)) { (row.title) }
                line.axis x1="290" x2=(WIDTH - 50.0) y1=(round(y)) y2=(round(y)) {}
                @for point in &row.points { g {
                    title { (point.about) }
                    line class={ "spread " (colour(point.series)) } x1=(round(scale.at(point.low))) x2=(round(scale.at(point.high))) y1=(round(y)) y2=(round(y)) {}
                    (shape(point.series, scale.at(point.value), y))
                } }
            }
        }
    }
}

/// Curves over a logarithmic axis. The other axis ends at 1 for shares, and at the greatest figure for anything else.
pub(super) fn curves(label: &str, series: &[(usize, Vec<(f64, f64)>)]) -> Markup {
    const WIDTH: f64 = 520.0;
    const HEIGHT: f64 = 300.0;
    const LEFT: f64 = 52.0;
    const TOP: f64 = 12.0;
    let points = || series.iter().flat_map(|(_, points)| points);
    let Some(scale) = Log::around(points().map(|point| point.0), LEFT, WIDTH - 16.0) else { return html! {} };
    let most = points().map(|point| point.1).filter(|it| it.is_finite()).fold(0.0_f64, f64::max);
    let most = if most <= 1.0 { 1.0 } else { most };
    let y = |value: f64| TOP + (1.0 - (value / most).clamp(0.0, 1.0)) * (HEIGHT - TOP - 30.0);
    let line = |points: &[(f64, f64)]| {
        points.iter().map(|(x, value)| format!("{},{}", round(scale.at(*x)), round(y(*value)))).collect::<Vec<_>>().join(" ")
    };
    html! {
        svg role="img" aria-label=(label) width=(WIDTH) height=(HEIGHT) viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } {
            @for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
                line.grid x1=(LEFT) x2=(WIDTH - 16.0) y1=(round(y(share * most))) y2=(round(y(share * most))) {}
                text.soft.end x=(LEFT - 6.0) y=(round(y(share * most) + 4.0)) { (super::figure(share * most)) }
            }
            @for decade in scale.decades() { text.soft.mid x=(round(scale.at(decade))) y=(HEIGHT - 8.0) { (decade) } }
            @for (at, points) in series {
                polyline class={ "curve " (colour(*at)) } points=(line(points)) {}
                @for (x, value) in points { g { title { (value) " at " (x) } (shape(*at, scale.at(*x), y(*value))) } }
            }
        }
    }
}

/// A share as per cent, without needless decimals.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_covers_whole_decades_and_keeps_order() {
        let scale = Log::around([3.0, 400.0].into_iter(), 0.0, 300.0).unwrap();
        assert_eq!(scale.decades(), [1.0, 10.0, 100.0, 1000.0]);
        assert!((scale.at(1.0), scale.at(10.0), scale.at(1000.0)) == (0.0, 100.0, 300.0));
        assert!(Log::around([0.0, f64::NAN].into_iter(), 0.0, 1.0).is_none());
        assert_eq!(Log::around([10.0].into_iter(), 0.0, 1.0).unwrap().decades(), [10.0, 100.0]);
    }

    #[test]
    fn times_are_named() {
        assert_eq!([100.0, 1e3, 10_500.0, 1e6, 2.5e9].map(nanoseconds), ["100 ns", "1 µs", "10.5 µs", "1 ms", "2.5 s"]);
        assert_eq!([0.001, 0.25, 1.0].map(percent), ["0.1%", "25%", "100%"]);
    }
}
