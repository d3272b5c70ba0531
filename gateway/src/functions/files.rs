//! Files that functions are given: trees, each from one archive.
//!
//! A tree is stored before a deploy names it, by the digest of its list. What is in an archive is
//! strangers' bytes: `archive` reads them, `names` says what may be in a tree.

pub(crate) mod archive;
pub(crate) mod coding;
mod mount;
pub(crate) mod names;
pub(crate) mod unpack;

#[cfg(test)]
mod tests;

use std::{error::Error as StdError, fs::File, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use runtime_pool::FileList;
use store::{Digest, NewTree, Quotas, Store, Tenant, TreeRecord};
use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
};

pub(crate) use self::mount::check_mount;
use self::{
    coding::ArchiveCoding,
    names::TreeLimits,
    unpack::{UnpackError, archive_bytes, unpack},
};
use crate::{config::UploadsSection, telemetry::clock::now_ms};

/// Archives that are unpacked at the same time. Others wait. Each keeps a processor and the disk busy
/// for some hundred milliseconds.
const UNPACKING: usize = 2;

/// Why a tree was not stored, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    #[error("receiving the archive")]
    Receive(#[source] Box<dyn StdError + Send + Sync>),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("the task that unpacks the archive ended early")]
    Interrupted(#[source] JoinError),
    /// The list of a stored tree is missing or damaged.
    #[error("the list of a tree of files was damaged on disk, or is missing")]
    Damaged,
}

/// Stores trees, and reads their lists. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Files {
    store: Store,
    limits: TreeLimits,
    unpacking: Arc<Semaphore>,
}

/// An archive to be stored. Its bytes come with it as a stream.
pub(crate) struct ArchiveUpload {
    pub(crate) tenant: Tenant,
    pub(crate) coding: ArchiveCoding,
    /// The number of bytes, where the sender announces it.
    pub(crate) length: Option<u64>,
    pub(crate) quotas: Quotas,
}

impl Files {
    pub(crate) fn new(store: &Store, uploads: &UploadsSection) -> Self {
        let limits = TreeLimits {
            entries: uploads.files,
            bytes: uploads.files_bytes,
            file_bytes: uploads.file_bytes,
            path_bytes: uploads.file_path_bytes,
            depth: uploads.file_depth,
        };
        Self { store: store.clone(), limits, unpacking: Arc::new(Semaphore::new(UNPACKING)) }
    }

    /// Stores the tree of an archive, and returns whether it is new. When this returns, the tree
    /// survives a power cut.
    pub(crate) async fn put<E>(
        &self,
        archive: ArchiveUpload,
        bytes: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<(TreeRecord, bool), FilesError>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let ArchiveUpload { tenant, coding, length, quotas } = archive;
        let most = archive_bytes(&self.limits);
        if length.is_some_and(|length| length > most) {
            return Err(store::Error::TooLarge { max_bytes: most }.into());
        }
        let mut received = self.store.begin_upload(most).await?;
        let mut bytes = std::pin::pin!(bytes);
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk.map_err(|error| FilesError::Receive(error.into()))?;
            received.write(&chunk).await?;
        }
        let received = received.finish().await?;
        let permit = Arc::clone(&self.unpacking).acquire_owned().await;
        let (upload, limits) = (self.store.begin_tree(), self.limits);
        let unpacking = spawn_blocking(move || {
            // Held until the thread is free again, even if the client is gone by then.
            let _permit = permit;
            let archive = File::open(received.path()).and_then(|file| coding.decoder(file, most));
            let archive =
                archive.map_err(archive::ArchiveError::Read).map_err(UnpackError::from)?;
            unpack(archive, upload, limits)
        });
        let unpacked = unpacking.await.map_err(FilesError::Interrupted)??;
        let (files, bytes) = unpacked.list.totals();
        let digest = unpacked.digest;
        let new = NewTree { tenant, digest, files, bytes, quotas, now_ms: now_ms() };
        Ok(self.store.put_tree(unpacked.upload, new).await?)
    }

    /// A tree and its list. `None` if the tenant has none with this digest.
    pub(crate) async fn get(
        &self,
        tenant: &Tenant,
        digest: &Digest,
    ) -> Result<Option<(TreeRecord, FileList)>, FilesError> {
        let Some(tree) = self.store.tree(tenant, digest).await? else { return Ok(None) };
        let list = self.store.read_blob(digest, u64::MAX).await?;
        let list = list.and_then(|list| String::from_utf8(list).ok());
        let list = list.and_then(|list| FileList::parse(&list).ok()).ok_or(FilesError::Damaged)?;
        Ok(Some((tree, list)))
    }
}
