//! A host's cached pages of one file, and which of their bytes the server has not got yet.

use std::collections::BTreeMap;

/// Size of a page.
pub(super) const PAGE: u64 = 4096;
const PAGE_LEN: usize = 4096;

#[derive(Clone, Debug)]
pub(super) struct Page {
    data: Box<[u8]>,
    /// All of it is what the server had (with our changes), not only the dirty part.
    uptodate: bool,
    /// Bytes to write back, as a half-open range.
    dirty: Option<(usize, usize)>,
}

/// The pages of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    map: BTreeMap<u64, Page>,
    /// When the oldest dirty byte was written, in the drive's time.
    pub(super) dirty_since: Option<u64>,
}

/// What stands in the way of a write into a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The page must be read first.
    Read,
    /// What is dirty in it must be written first.
    Flush,
}

impl Pages {
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty_since.is_some()
    }

    /// The first page of a range that cannot be read from the cache, and whether it has dirty bytes.
    pub(super) fn first_missing(&self, start: u64, end: u64) -> Option<(u64, bool)> {
        let mut index = start / PAGE;
        while index * PAGE < end {
            match self.map.get(&index) {
                Some(page) if page.uptodate => {}
                Some(page) => return Some((index, page.dirty.is_some())),
                None => return Some((index, false)),
            }
            index += 1;
        }
        None
    }

    /// Copies out of pages that are all there.
    pub(super) fn copy_out(&self, start: u64, end: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(usize::try_from(end.saturating_sub(start)).unwrap_or(0));
        let mut at = start;
        while at < end {
            let from = (at % PAGE) as usize;
            let len = (PAGE_LEN - from).min((end - at) as usize);
            match self.map.get(&(at / PAGE)) {
                Some(page) => out.extend_from_slice(&page.data[from..from + len]),
                None => out.resize(out.len() + len, 0),
            }
            at += len as u64;
        }
        out
    }

    /// Takes what the server sent, from a page boundary on; pages that are dirty stay as they are.
    pub(super) fn fill(&mut self, start: u64, len: usize, bytes: &[u8]) {
        let mut done = 0;
        while done < len {
            let index = (start + done as u64) / PAGE;
            let fresh = self.map.get(&index).is_none_or(|page| page.dirty.is_none());
            if fresh {
                let mut data = vec![0; PAGE_LEN].into_boxed_slice();
                let from = done.min(bytes.len());
                let to = (done + PAGE_LEN).min(bytes.len());
                data[..to - from].copy_from_slice(&bytes[from..to]);
                self.map.insert(index, Page { data, uptodate: true, dirty: None });
            }
            done += PAGE_LEN;
        }
    }

    /// Why a write of `from..to` within a page cannot be taken yet.
    pub(super) fn obstacle(&self, index: u64, from: usize, to: usize, size: u64, readable: bool) -> Option<Obstacle> {
        let start = index * PAGE;
        match self.map.get(&index) {
            Some(page) if page.uptodate => None,
            Some(page) => match page.dirty {
                Some((low, high)) if from <= high && low <= to => None,
                Some(_) => Some(Obstacle::Flush),
                None => None,
            },
            None => {
                let whole = from == 0 && (to == PAGE_LEN || start + to as u64 >= size);
                (!whole && start < size && readable).then_some(Obstacle::Read)
            }
        }
    }

    /// Takes a write within one page. `extend`: the whole page is written back, not only these bytes.
    pub(super) fn write(&mut self, index: u64, from: usize, bytes: &[u8], size: u64, extend: bool, now: u64) {
        let to = from + bytes.len();
        let start = index * PAGE;
        let page = self.map.entry(index).or_insert_with(|| {
            let whole = from == 0 && (to == PAGE_LEN || start + to as u64 >= size);
            Page { data: vec![0; PAGE_LEN].into_boxed_slice(), uptodate: whole || start >= size, dirty: None }
        });
        page.data[from..to].copy_from_slice(bytes);
        let (low, high) = page.dirty.unwrap_or((from, to));
        page.dirty = Some((low.min(from), high.max(to)));
        if extend && page.uptodate {
            let valid = (size.max(start + to as u64) - start).min(PAGE) as usize;
            page.dirty = Some((0, valid));
        }
        self.dirty_since.get_or_insert(now);
    }

    /// The dirty bytes as requests of at most `largest`, in order.
    pub(super) fn dirty_runs(&self, largest: usize) -> Vec<(u64, Vec<u8>)> {
        let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
        for (&index, page) in &self.map {
            let Some((from, to)) = page.dirty else { continue };
            let start = index * PAGE + from as u64;
            let bytes = &page.data[from..to];
            match runs.last_mut() {
                Some((offset, run)) if *offset + run.len() as u64 == start && run.len() + bytes.len() <= largest => {
                    run.extend_from_slice(bytes);
                }
                _ => runs.push((start, bytes.to_vec())),
            }
        }
        runs
    }

    /// Marks a range as written back.
    pub(super) fn clean(&mut self, start: u64, end: u64) {
        for page in self.map.range_mut(start / PAGE..end.div_ceil(PAGE)).map(|(_, page)| page) {
            page.dirty = None;
        }
        if self.map.values().all(|page| page.dirty.is_none()) {
            self.dirty_since = None;
        }
        self.map.retain(|_, page| page.uptodate || page.dirty.is_some());
    }

    /// Forgets everything that is clean.
    pub(super) fn drop_clean(&mut self) {
        self.map.retain(|_, page| page.dirty.is_some());
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.map.clear();
        self.dirty_since = None;
    }

    /// The file was cut (or grown) to a size.
    pub(super) fn truncate(&mut self, size: u64) {
        self.map.retain(|&index, _| index * PAGE < size);
        if let Some(page) = self.map.get_mut(&(size / PAGE)) {
            let keep = (size % PAGE) as usize;
            page.data[keep..].fill(0);
            page.dirty = page.dirty.map(|(low, high)| (low.min(keep), high.min(keep))).filter(|(low, high)| low < high);
        }
        if self.map.values().all(|page| page.dirty.is_none()) {
            self.dirty_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_into_a_known_page_writes_the_whole_page_back() {
        let mut pages = Pages::default();
        pages.fill(0, 8192, &[7; 8192]);
        pages.write(0, 100, &[1; 10], 8192, true, 5);
        let runs = pages.dirty_runs(1 << 20);
        assert_eq!(runs.len(), 1);
        assert_eq!((runs[0].0, runs[0].1.len()), (0, 4096));
        pages.clean(0, 4096);
        assert!(!pages.is_dirty());
        assert_eq!(pages.copy_out(99, 111), [7, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 7]);
    }

    #[test]
    fn without_extension_only_the_bytes_written_go_back() {
        let mut pages = Pages::default();
        pages.fill(0, 4096, &[7; 4096]);
        pages.write(0, 100, &[1; 10], 4096, false, 5);
        assert_eq!(pages.dirty_runs(1 << 20), vec![(100, vec![1; 10])]);
    }

    #[test]
    fn runs_join_across_pages_up_to_the_largest_request() {
        let mut pages = Pages::default();
        for index in 0..4 {
            pages.write(index, 0, &[index as u8; 4096], 0, true, 5);
        }
        let lens = |runs: Vec<(u64, Vec<u8>)>| runs.iter().map(|run| run.1.len()).collect::<Vec<_>>();
        assert_eq!(lens(pages.dirty_runs(1 << 20)), [16384]);
        assert_eq!(lens(pages.dirty_runs(8192)), [8192, 8192]);
    }

    #[test]
    fn a_second_write_far_from_the_first_in_an_unread_page_asks_for_a_flush() {
        let mut pages = Pages::default();
        assert_eq!(pages.obstacle(0, 0, 10, 9000, true), Some(Obstacle::Read));
        assert_eq!(pages.obstacle(0, 0, 10, 9000, false), None);
        pages.write(0, 0, &[1; 10], 9000, true, 5);
        assert_eq!(pages.obstacle(0, 10, 20, 9000, false), None);
        assert_eq!(pages.obstacle(0, 500, 510, 9000, false), Some(Obstacle::Flush));
        assert_eq!(pages.first_missing(0, 100), Some((0, true)));
    }

    #[test]
    fn cutting_a_file_drops_what_is_beyond() {
        let mut pages = Pages::default();
        pages.fill(0, 8192, &[7; 8192]);
        pages.write(1, 0, &[1; 4096], 8192, true, 5);
        pages.truncate(4000);
        assert!(!pages.is_dirty());
        assert_eq!(pages.copy_out(3999, 4001), [7, 0]);
    }
}
