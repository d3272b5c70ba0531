//! The files of artifacts, named by the SHA-256 of their bytes.

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

/// The suffix of an artifact's file.
pub(super) const SUFFIX: &str = ".wasm";

/// Bytes that are read and hashed at a time.
const BLOCK_BYTES: usize = 256 * 1024;

impl Store {
    /// The path of an artifact's file once a revision with it was published. The file need not
    /// exist.
    pub fn artifact_path(&self, digest: &Digest) -> PathBuf {
        path_in(self.directory(), digest)
    }

    /// Opens an artifact for reading, and returns its size. `None` when its file does not exist. An
    /// open file stays readable when its artifact is removed.
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

    /// Whether an artifact's file exists and its bytes have the artifact's digest. Reads the whole
    /// file.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::Error::Io).
    pub async fn is_whole(&self, digest: &Digest) -> Result<bool> {
        let (path, digest) = (self.artifact_path(digest), *digest);
        blocking("checking an artifact", move || is_whole(&path, &digest)).await
    }

    /// Moves a damaged artifact to `quarantine/`, so that it is not read again, and returns whether
    /// it was damaged. Uploading the same bytes again restores it.
    ///
    /// # Errors
    ///
    /// [`NoSpace`](crate::Error::NoSpace) and [`Io`](crate::Error::Io).
    pub async fn quarantine(&self, digest: &Digest) -> Result<bool> {
        // A publish of the same bytes may be replacing the file with an intact one.
        let exclusive = self.artifact_lock().clone().write_owned().await;
        let (directory, digest) = (self.directory().clone(), *digest);
        blocking("moving a damaged artifact to quarantine", move || {
            let _exclusive = exclusive;
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

    /// Moves the upload's file to the path of its artifact. When this returns, the file survives a
    /// power cut at that path.
    ///
    /// The caller holds the artifact lock shared from before this call until the artifact's row has
    /// committed. Otherwise garbage collection could remove the file in between.
    pub(crate) async fn move_into_place(&self, upload: &StoredUpload) -> Result<()> {
        let digest = upload.digest();
        let temp = upload.path().to_owned();
        let directory = self.directory().clone();
        blocking("moving an artifact into place", move || {
            move_into_place(&directory, &digest, &temp)
        })
        .await
    }
}

/// `artifacts/ab/abcd….wasm`: 256 shards, so that no directory grows huge.
pub(crate) fn path_in(directory: &Directory, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    directory.artifacts().join(&name[..2]).join(name + SUFFIX)
}

fn move_into_place(directory: &Directory, digest: &Digest, temp: &Path) -> io::Result<()> {
    let path = path_in(directory, digest);
    let shard = path.parent().expect("an artifact lies in a shard");
    private_directory(shard)?;
    // This also replaces an existing file, which may be damaged; the bytes of the upload were
    // hashed while they arrived. Two tasks may replace each other's file, and both files are equal.
    match fs::rename(temp, &path) {
        // The same upload was published before, for another function or by a call that failed.
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_whole(&path, digest)? => {}
        renamed => renamed?,
    }
    // Also when the shard existed: the task that created it may not have synced it yet, and our row
    // must not commit before the shard survives a power cut.
    sync_directory(shard)?;
    sync_directory(&directory.artifacts())
}

/// Whether the file exists and its bytes have this digest.
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
