//! A disk that is soon full.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// Eight megabytes, mounted until dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Over an empty folder; it is to be dropped before the folder. Nothing if mounting is not allowed, which takes root.
    #[must_use]
    pub fn mount(folder: &Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs"])
            .arg(folder)
            .output();
        let is_mounted = mounted.is_ok_and(|mounted| mounted.status.success());
        if !is_mounted {
            eprintln!("no small disk can be mounted here: what happens on a full one is not tried");
        }
        is_mounted.then(|| Self(folder.to_owned()))
    }

    /// Leaves that many bytes, rounded to pages.
    ///
    /// # Panics
    ///
    /// If less is free.
    pub fn fill_but(&self, room: u64) {
        let mut file = File::create(self.filler()).unwrap();
        while file.write_all(&[7; 512]).is_ok() {}
        let filled = file.metadata().unwrap().len();
        file.set_len(filled.checked_sub(room).unwrap()).unwrap();
    }

    /// Takes that back.
    ///
    /// # Panics
    ///
    /// If it is not filled.
    pub fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.unwrap().success());
    }
}
