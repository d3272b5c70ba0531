//! Artifacts: the bytes that revisions run, in files that are named by their SHA-256.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{
    Digest, Result, Store, StoredUpload,
    directory::{Directory, blocking, private_directory, sync_directory},
};

/// Bytes that are read and hashed at a time.
const BLOCK_BYTES: usize = 256 * 1024;

impl Store {
    /// Where an artifact lies once a revision was published with it. The file need not
    /// exist.
    pub fn artifact_path(&self, digest: &Digest) -> PathBuf {
        path_in(self.directory(), digest)
    }

    /// Opens an artifact for reading, and says how many bytes it has. `None` when it is
    /// not there. An open file stays readable when its artifact is collected.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::Error::Io).
    pub async fn open_artifact(&self, digest: &Digest) -> Result<Option<(tokio::fs::File, u64)>> {
        let path = self.artifact_path(digest);
        let opened = blocking("opening an artifact", move || match File::open(path) {
            Ok(file) => {
                let bytes = file.metadata()?.len();
                Ok(Some((file, bytes)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await?;
        Ok(opened.map(|(file, bytes)| (tokio::fs::File::from_std(file), bytes)))
    }

    /// Whether an artifact's file is there and has the bytes that it is named for. Reads all
    /// of it.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::Error::Io).
    pub async fn is_whole(&self, digest: &Digest) -> Result<bool> {
        let (path, digest) = (self.artifact_path(digest), *digest);
        blocking("checking an artifact", move || is_whole(&path, &digest)).await
    }

    /// Puts a damaged artifact aside, so that nobody reads it again, and says whether it was
    /// damaged. Uploading its bytes once more brings it back.
    ///
    /// # Errors
    ///
    /// [`NoSpace`](crate::Error::NoSpace) and [`Io`](crate::Error::Io).
    pub async fn quarantine(&self, digest: &Digest) -> Result<bool> {
        // Alone: a publish of the same bytes may be mending it.
        let alone = self.placing().clone().write_owned().await;
        let (directory, digest) = (self.directory().clone(), *digest);
        blocking("putting a damaged artifact aside", move || {
            let _alone = alone;
            let path = path_in(&directory, &digest);
            if !path.exists() || is_whole(&path, &digest)? {
                return Ok(false);
            }
            private_directory(&directory.quarantine())?;
            fs::rename(&path, directory.quarantine().join(format!("{digest}.wasm")))?;
            Ok(true)
        })
        .await
    }

    /// Moves received bytes to their place, and returns when that will survive a power cut.
    ///
    /// The caller holds the placing lock from before this call until the artifact's row
    /// has committed: else garbage collection could remove the file in between.
    pub(crate) async fn place(&self, received: &StoredUpload) -> Result<()> {
        let digest = received.digest();
        let temp = received.path().to_owned();
        let directory = self.directory().clone();
        blocking("moving an artifact to its place", move || place(&directory, &digest, &temp)).await
    }
}

/// `artifacts/ab/abcd….wasm`: 256 shards, so that no directory grows huge.
pub(crate) fn path_in(directory: &Directory, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    directory.artifacts().join(&name[..2]).join(name + ".wasm")
}

fn place(directory: &Directory, digest: &Digest, temp: &Path) -> io::Result<()> {
    let path = path_in(directory, digest);
    let shard = path.parent().expect("an artifact lies in a shard");
    private_directory(shard)?;
    // Even over a file that is there: it may be damaged, and these bytes were hashed a moment
    // ago. Two tasks rename equal bytes over each other.
    match fs::rename(temp, &path) {
        // Published a second time by the same caller, after an error or for another function.
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_whole(&path, digest)? => {}
        renamed => renamed?,
    }
    // Even when the shard was there: whoever made it may not have come to this line yet, and our
    // row must not commit before it is safe.
    sync_directory(shard)?;
    sync_directory(&directory.artifacts())
}

/// Whether a file has the bytes that `digest` is of; not if there is none.
fn is_whole(path: &Path, digest: &Digest) -> io::Result<bool> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match file.read(&mut block)? {
            0 => break,
            read => hasher.update(&block[..read]),
        }
    }
    Ok(hasher.finalize().as_slice() == digest.as_bytes())
}
