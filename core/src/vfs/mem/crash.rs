//! What a disk holds after the power went, chosen by a seed among what real file systems may leave.
//!
//! Synced bytes stay. Of a file's unsynced changes none, all, the first few, or any mixture survive: each sector of 512 bytes was
//! last written back at a moment of its own, and the length at another. Stores through a mapping survive or not, sector by
//! sector. Of the unsynced name changes none, all, the first few (a journal), or any mixture survive in which each single name
//! kept the order of its changes; a rename is never seen half.

use super::content::{Change, Content, apply};
use super::tree::{Dir, File, NameChange, Node, ROOT, Tree, set};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

const SECTOR: usize = 512;

/// A small deterministic generator (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// Returns a moment among `n` changes: how many of them were made before. Both ends are likely.
    fn moment(&mut self, n: usize) -> usize {
        match self.below(3) {
            0 => 0,
            1 => n,
            _ => self.below(n + 1),
        }
    }
}

/// How much survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Nothing,
    Everything,
    Prefix,
    Mixture,
}

impl Style {
    fn pick(rng: &mut Rng) -> Self {
        [Self::Nothing, Self::Everything, Self::Prefix, Self::Mixture, Self::Mixture][rng.below(5)]
    }
}

/// Returns the file system that the next start finds.
pub(super) fn crash(tree: &Tree, seed: u64) -> io::Result<Tree> {
    let mut rng = Rng::new(seed);
    let names = surviving_names(tree, &mut rng);
    let mut after = Tree::new();
    after.next_inode = tree.next_inode;
    let mut links: BTreeMap<u64, u64> = BTreeMap::new();
    let mut seen = BTreeSet::from([ROOT]);
    let mut todo = vec![ROOT];
    while let Some(inode) = todo.pop() {
        let mut dir = Dir::default();
        for (name, &child) in names.get(&inode).into_iter().flatten() {
            match tree.nodes.get(&child) {
                Some(Node::Dir(_)) if seen.insert(child) => todo.push(child),
                Some(Node::File(_)) => *links.entry(child).or_default() += 1,
                // A directory that already has its place, or nothing: the name did not survive.
                Some(Node::Dir(_)) | None => continue,
            }
            dir.names.insert(name.clone(), child);
        }
        dir.durable = dir.names.clone();
        after.nodes.insert(inode, Node::Dir(dir));
    }
    for (inode, links) in links {
        if let Some(Node::File(file)) = tree.nodes.get(&inode) {
            let content = Content::settled(surviving_bytes(&file.content, &mut rng)?);
            after.nodes.insert(inode, Node::File(File { links, ..File::new(content) }));
        }
    }
    Ok(after)
}

/// Returns every directory's names.
fn surviving_names(tree: &Tree, rng: &mut Rng) -> BTreeMap<u64, BTreeMap<String, u64>> {
    let mut names: BTreeMap<u64, BTreeMap<String, u64>> = BTreeMap::new();
    for (&inode, node) in &tree.nodes {
        if let Node::Dir(dir) = node {
            names.insert(inode, dir.durable.clone());
        }
    }
    for edit in surviving_changes(&tree.pending, rng).into_iter().flatten() {
        if let Some(dir) = names.get_mut(&edit.dir) {
            set(dir, edit);
        }
    }
    names
}

fn surviving_changes<'a>(pending: &'a [NameChange], rng: &mut Rng) -> Vec<&'a NameChange> {
    let style = Style::pick(rng);
    let kept = match style {
        Style::Nothing => 0,
        Style::Everything | Style::Mixture => pending.len(),
        Style::Prefix => rng.below(pending.len() + 1),
    };
    // Once a change of a name is lost, so are its later ones, and whatever came with those.
    let mut lost = BTreeSet::new();
    let mut survivors = Vec::new();
    for change in &pending[..kept] {
        let stands = change.iter().all(|edit| !lost.contains(&(edit.dir, edit.name.as_str())));
        if stands && (style != Style::Mixture || rng.coin()) {
            survivors.push(change);
        } else {
            lost.extend(change.iter().map(|edit| (edit.dir, edit.name.as_str())));
        }
    }
    survivors
}

fn surviving_bytes(content: &Content, rng: &mut Rng) -> io::Result<Vec<u8>> {
    let changes = &content.unsynced;
    let now = content.bytes()?;
    let mut image = content.durable.clone();
    match Style::pick(rng) {
        Style::Nothing => {}
        Style::Everything => {
            changes.iter().for_each(|change| apply(&mut image, change));
            stored_through_mapping(&mut image, &now, changes, content, || true);
        }
        Style::Prefix => {
            let kept = rng.below(changes.len() + 1);
            changes[..kept].iter().for_each(|change| apply(&mut image, change));
        }
        Style::Mixture => {
            let base = rng.next();
            image = mixture(image, changes, base, rng);
            stored_through_mapping(&mut image, &now, changes, content, || rng.coin());
        }
    }
    Ok(image)
}

/// Applies to each sector the changes before a moment of its own.
fn mixture(mut image: Vec<u8>, changes: &[Change], base: u64, rng: &mut Rng) -> Vec<u8> {
    let moment = |sector: usize| Rng(base ^ (sector as u64).wrapping_mul(0x2545_f491_4f6c_dd1d)).moment(changes.len());
    let len_moment = rng.moment(changes.len());
    let mut len = image.len();
    for (i, change) in changes.iter().enumerate() {
        let (mut at, end) = match change {
            Change::Write { offset, bytes } => (*offset as usize, *offset as usize + bytes.len()),
            // Shortening empties the rest of what there was; lengthening writes nothing.
            Change::SetLen(to) => (*to as usize, image.len().max(*to as usize)),
        };
        if i < len_moment {
            len = if let Change::SetLen(to) = change { *to as usize } else { len.max(end) };
        }
        if image.len() < end {
            image.resize(end, 0);
        }
        let start = at;
        while at < end {
            let sector = at / SECTOR;
            let stop = end.min((sector + 1) * SECTOR);
            if i < moment(sector) {
                match change {
                    Change::Write { bytes, .. } => image[at..stop].copy_from_slice(&bytes[at - start..stop - start]),
                    Change::SetLen(_) => image[at..stop].fill(0),
                }
            }
            at = stop;
        }
    }
    image.resize(len, 0);
    image
}

/// Copies those sectors that were stored through a mapping, each if `survives`.
fn stored_through_mapping(image: &mut [u8], now: &[u8], changes: &[Change], content: &Content, mut survives: impl FnMut() -> bool) {
    if !content.is_mapped {
        return;
    }
    let mut written = content.durable.clone();
    changes.iter().for_each(|change| apply(&mut written, change));
    written.resize(now.len(), 0);
    let end = image.len().min(now.len());
    for at in (0..end).step_by(SECTOR) {
        let stop = end.min(at + SECTOR);
        if written[at..stop] != now[at..stop] && survives() {
            image[at..stop].copy_from_slice(&now[at..stop]);
        }
    }
}
