//! The minimizing delta debugging algorithm.
//!
//! A. Zeller, R. Hildebrandt: Simplifying and Isolating Failure-Inducing Input, IEEE Transactions on Software Engineering 28(2),
//! 2002, section 3. The result is 1-minimal where the test is deterministic: without any single item left in it the test passes.

/// The smallest part of `items` that the algorithm finds for which `fails` still holds; `items` itself must fail. Items keep
/// their order.
pub fn ddmin<T: Clone>(items: &[T], mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut left = items.to_vec();
    if left.is_empty() || fails(&[]) {
        return Vec::new();
    }
    let mut parts = 2;
    while left.len() >= 2 {
        let size = left.len().div_ceil(parts);
        let chunks: Vec<Vec<T>> = left.chunks(size).map(<[T]>::to_vec).collect();
        if let Some(chunk) = chunks.iter().find(|chunk| fails(chunk)) {
            left.clone_from(chunk);
            parts = 2;
            continue;
        }
        // Of two parts each is the other's complement.
        let complement = |at: usize| chunks.iter().enumerate().filter(|(other, _)| *other != at).flat_map(|(_, it)| it.clone()).collect();
        let smaller: Option<Vec<T>> =
            (0..chunks.len()).filter(|_| chunks.len() > 2).map(complement).find(|candidate: &Vec<T>| fails(candidate));
        if let Some(smaller) = smaller {
            left = smaller;
            parts = (parts - 1).max(2);
        } else if parts >= left.len() {
            break;
        } else {
            parts = (parts * 2).min(left.len());
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::ddmin;

    #[test]
    fn what_is_left_fails_and_nothing_of_it_can_be_left_out() {
        let items: Vec<u32> = (0..100).collect();
        for wanted in [vec![7], vec![3, 50, 99], vec![0, 1, 2, 98], (0..100).collect()] {
            let found = ddmin(&items, |part| wanted.iter().all(|it| part.contains(it)));
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn an_order_is_kept_and_what_needs_nothing_becomes_nothing() {
        assert_eq!(ddmin(&[3, 1, 2], |part| part.contains(&2) && part.contains(&3)), [3, 2]);
        assert!(ddmin(&[1, 2, 3], |_| true).is_empty());
        assert!(ddmin::<u8>(&[], |_| true).is_empty());
    }

    #[test]
    fn one_of_many_is_found_in_few_tries() {
        let items: Vec<u32> = (0..1024).collect();
        let mut tries = 0;
        ddmin(&items, |part| {
            tries += 1;
            part.contains(&700)
        });
        assert!(tries <= 22, "{tries}");
    }
}
