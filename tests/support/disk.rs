//! A disk that can be filled.
//!
//! Owns its mount, which needs root.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use super::skip;

/// A file system of its own, small enough to be filled.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it; `None`, with a line, where that is not allowed.
    pub fn mount(at: PathBuf, size: &str) -> Option<SmallDisk> {
        fs::create_dir(&at).unwrap();
        let options = format!("size={size},mode=755");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).output();
        if mount.is_ok_and(|done| done.status.success()) {
            return Some(SmallDisk(at));
        }
        skip("a small disk cannot be mounted here", false);
        None
    }

    /// Takes all that is free, and returns the file to remove.
    pub fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = fs::File::create(&path).unwrap();
        for chunk in [[0; 4096].as_slice(), [0; 1].as_slice()] {
            while file.write_all(chunk).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.0.display());
        }
    }
}
