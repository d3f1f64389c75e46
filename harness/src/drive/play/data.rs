//! Faults of content: bytes that are flipped, misplaced, lost, split, mixed, acknowledged falsely, or not shown to others.

use super::super::net::{Later, Rest};
use super::super::rpc::{Ino, Reply, Rpc};
use super::super::server::Loss;
use super::super::{Drive, Errno, Fail, HostId, Outcome};
use crate::drive::catalogue::{Act, Phase};
use crate::drive::faults::Fired;

const HOUR_NS: i64 = 3_600_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

impl Drive {
    pub(super) fn play_data(&mut self, host: HostId, rpc: Rpc, fired: &Fired) -> Outcome<Reply> {
        match (fired.entry.act, &rpc) {
            (Act::Flip, _) => self.flip(host, &rpc, fired),
            (Act::Misplace, _) => self.misplace(host, &rpc, fired),
            (Act::LoseWrite, Rpc::Write { ino, offset, data, .. }) => self.lose_write(host, *ino, *offset, data, fired),
            (Act::LoseUpload, Rpc::Write { ino, offset, data, .. }) => {
                if let Some(file) = self.hosts[host].files.get_mut(ino) {
                    file.pin();
                }
                self.lose_write(host, *ino, *offset, data, fired)
            }
            (Act::FalseStable, _) => self.false_stable(host, rpc, fired),
            (Act::Prefix, Rpc::Write { ino, offset, data, stable }) => {
                let data = data[..data.len() / 2].to_vec();
                // What of it arrived is there; the host is told of a failure whatever came of it.
                let _ = self.serve(host, &Rpc::Write { ino: *ino, offset: *offset, data, stable: *stable });
                self.refuse(fired, Errno::EIO)
            }
            (Act::SplitWrite, Rpc::Write { ino, offset, data, stable }) => {
                let parts = (*ino, *offset, data.clone(), *stable);
                self.split_write(host, rpc, parts, fired)
            }
            (Act::Orphan, Rpc::Write { data, .. }) => {
                self.server.leak(data.len());
                self.injector.observed(fired.plan);
                self.serve(host, &rpc)
            }
            (Act::KeepValidator, _) => self.keep_validator(host, &rpc, fired),
            (Act::ForeignTime, _) => self.foreign_time(host, &rpc, fired),
            (Act::MixVersions, Rpc::Read { ino, offset, .. }) => self.mix_versions(host, &rpc, *ino, *offset, fired),
            (Act::Placeholder, _) if fired.delay_ns > 0 => {
                self.injector.observed(fired.plan);
                let due = self.now() + fired.delay_ns;
                self.stage(host, rpc, due, Rest::Serve)
            }
            (Act::Placeholder, _) => self.refuse(fired, Errno::EIO),
            (Act::ShowPrefix, Rpc::Write { ino, .. }) => {
                let answer = self.serve(host, &rpc)?;
                let content = self.server.content(*ino).unwrap_or_default();
                let prefix = content[..content.len() / 2].to_vec();
                self.server.shadow(*ino, host, self.now() + fired.delay_ns, prefix, fired.plan);
                Ok(answer)
            }
            _ => self.serve(host, &rpc),
        }
    }

    fn flip(&mut self, host: HostId, rpc: &Rpc, fired: &Fired) -> Outcome<Reply> {
        if fired.phase == Phase::P4
            && let Rpc::Read { ino, offset, len } = *rpc
        {
            let end =
                self.server.content(ino).map_or(0, <[u8]>::len).min(usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(len));
            let there = (end as u64).saturating_sub(offset);
            if there > 0 && self.server.flip(ino, offset * 8 + self.rng.below(there * 8)) {
                self.injector.observed(fired.plan);
            }
            return self.serve(host, rpc);
        }
        let mut reply = self.serve(host, rpc);
        if let Ok(Reply::Data { bytes, .. }) = &mut reply
            && !bytes.is_empty()
        {
            let bit = self.rng.below(bytes.len() as u64 * 8);
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
            self.injector.observed(fired.plan);
        }
        reply
    }

    /// U2: another file's bytes, or this file's from elsewhere; a write goes there instead.
    fn misplace(&mut self, host: HostId, rpc: &Rpc, fired: &Fired) -> Outcome<Reply> {
        const AWAY: u64 = 4096;
        match rpc {
            Rpc::Read { ino, offset, len } => {
                let Reply::Data { bytes, attr } = self.serve(host, rpc)? else { return Err(Errno::EIO.into()) };
                let elsewhere = match self.server.neighbour(*ino) {
                    Some(other) => Rpc::Read { ino: other, offset: *offset, len: *len },
                    None => Rpc::Read { ino: *ino, offset: offset + AWAY, len: *len },
                };
                let Ok(Reply::Data { bytes: mut others, .. }) = self.serve(host, &elsewhere) else {
                    return Ok(Reply::Data { bytes, attr });
                };
                others.truncate(bytes.len());
                others.extend_from_slice(&bytes[others.len()..]);
                if others != bytes {
                    self.injector.observed(fired.plan);
                }
                Ok(Reply::Data { bytes: others, attr })
            }
            Rpc::Write { ino, offset, data, stable } => {
                let (other, at) = self.server.neighbour(*ino).map_or((*ino, offset + AWAY), |other| (other, *offset));
                // Whether that place can be written changes nothing about what this host is told.
                let _ = self.serve(host, &Rpc::Write { ino: other, offset: at, data: data.clone(), stable: *stable });
                self.lose_write(host, *ino, *offset, data, fired)
            }
            _ => self.serve(host, rpc),
        }
    }

    /// The answer to a write that was not made.
    fn lose_write(&mut self, host: HostId, ino: Ino, offset: u64, data: &[u8], fired: &Fired) -> Outcome<Reply> {
        self.server.set_viewer(host);
        let mut attr = self.attr_of(ino)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let there = self.server.content(ino).unwrap_or_default();
        if there.get(start..start.saturating_add(data.len())) != Some(data) {
            self.injector.observed(fired.plan);
        }
        attr.size = attr.size.max(offset + data.len() as u64);
        Ok(Reply::Written { attr, verifier: self.server.verifier() })
    }

    /// N13, S10, F3: told that it is stable; it is not.
    fn false_stable(&mut self, host: HostId, rpc: Rpc, fired: &Fired) -> Outcome<Reply> {
        let answer = match rpc {
            Rpc::Write { ino, offset, data, .. } => {
                self.server.lie(ino, fired.plan);
                self.serve(host, &Rpc::Write { ino, offset, data, stable: false })
            }
            Rpc::Commit { ino } => {
                self.server.lie(ino, fired.plan);
                Ok(Reply::Committed { verifier: self.server.verifier() })
            }
            other => self.serve(host, &other),
        };
        if fired.delay_ns > 0 {
            self.late.push((self.now() + fired.delay_ns, Later::Restart(Loss::All)));
        }
        answer
    }

    /// N19: some parts of a write are there at once, the others later; the host waits for all of them.
    fn split_write(&mut self, host: HostId, rpc: Rpc, of: (Ino, u64, Vec<u8>, bool), fired: &Fired) -> Outcome<Reply> {
        let (ino, offset, data, stable) = of;
        let largest = if fired.fault.bytes == 0 { 4096 } else { usize::try_from(fired.fault.bytes).unwrap_or(usize::MAX) };
        let length = largest.min(data.len().div_ceil(2)).max(1);
        let part = |at: usize| Rpc::Write {
            ino,
            offset: offset + (at * length) as u64,
            data: data[at * length..data.len().min((at + 1) * length)].to_vec(),
            stable,
        };
        let count = data.len().div_ceil(length);
        // The last is there and one of the others is not: what is between reads as zeros, or as what was there.
        let missing = self.rng.below(count as u64 - 1) as usize;
        let (mut now, mut later) = (Vec::new(), Vec::new());
        for at in 0..count {
            let early = at != missing && (at == count - 1 || self.rng.chance(0.5));
            if early { now.push(part(at)) } else { later.push(part(at)) }
        }
        for part in now {
            self.serve(host, &part)?;
        }
        self.injector.observed(fired.plan);
        let due = self.now() + fired.delay_ns;
        self.stage(host, rpc, due, Rest::Finish(later))
    }

    /// N25: the change attribute and the time stay as they were.
    fn keep_validator(&mut self, host: HostId, rpc: &Rpc, fired: &Fired) -> Outcome<Reply> {
        let Some(ino) = rpc.handle() else { return self.serve(host, rpc) };
        let before = self.attr_of(ino)?;
        let mut answer = self.serve(host, rpc)?;
        self.server.keep_validator(ino, before.change, before.mtime, fired.plan);
        if let Reply::Written { attr, .. } | Reply::Attr(attr) = &mut answer {
            (attr.change, attr.mtime) = (before.change, before.mtime);
        }
        Ok(answer)
    }

    /// Y9: the time is that of another machine's clock.
    fn foreign_time(&mut self, host: HostId, rpc: &Rpc, fired: &Fired) -> Outcome<Reply> {
        let mut answer = self.serve(host, rpc)?;
        let offset = if fired.fault.offset_ms == 0 { -HOUR_NS } else { fired.fault.offset_ms.saturating_mul(1_000_000) };
        if let Reply::Written { attr, .. } | Reply::Attr(attr) | Reply::Opened { attr, .. } = &mut answer {
            attr.mtime = attr.mtime.saturating_add_signed(offset) / SECOND_NS * SECOND_NS;
            self.server.set_mtime(attr.ino, attr.mtime);
            self.injector.observed(fired.plan);
        }
        Ok(answer)
    }

    /// O7: the first half is from before the last change, the rest from after.
    fn mix_versions(&mut self, host: HostId, rpc: &Rpc, ino: Ino, offset: u64, fired: &Fired) -> Outcome<Reply> {
        let previous = self.server.previous(ino).map(<[u8]>::to_vec).unwrap_or_default();
        let Reply::Data { mut bytes, attr } = self.serve(host, rpc)? else { return Err(Fail::Errno(Errno::EIO)) };
        if fired.fault.errno.is_some() {
            return self.refuse(fired, Errno::EIO);
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let half = bytes.len().div_ceil(2);
        let old = previous.get(start..).unwrap_or_default();
        let taken = half.min(old.len());
        if bytes[..taken] != old[..taken] {
            bytes[..taken].copy_from_slice(&old[..taken]);
            self.injector.observed(fired.plan);
        }
        Ok(Reply::Data { bytes, attr })
    }
}
