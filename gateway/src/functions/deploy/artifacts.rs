//! Artifacts that are uploaded by themselves, before a function runs them.

use std::error::Error as StdError;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use store::{Digest, StoredUpload, Tenant};

use crate::{
    functions::deploy::{Deployer, error::DeployError, state::DeployState, upload::Actor},
    telemetry::clock::now_ms,
};

impl Deployer {
    /// Stores an artifact, which must have this digest, and returns whether it is new to its tenant. It is
    /// neither inspected nor compiled.
    pub(crate) async fn put_artifact<E>(
        &self,
        (tenant, actor): (&Tenant, &Actor),
        digest: Digest,
        length: Option<u64>,
        bytes: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<bool, DeployError>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.state.check_length(length)?;
        self.admit(&actor.token)?;
        let upload = self.state.receive_bytes(Some(digest), bytes).await?;
        let quotas = self.quotas();
        Ok(self.state.store.put_artifact(tenant, &upload, &quotas, now_ms()).await?)
    }

    /// The bytes of an artifact that a tenant may name, if it is there undamaged.
    pub(crate) async fn artifact(
        &self,
        tenant: &Tenant,
        digest: &Digest,
    ) -> store::Result<Option<u64>> {
        let Some(bytes) = self.state.store.own_artifact(tenant, digest).await? else {
            return Ok(None);
        };
        Ok(self.state.store.is_whole(digest).await?.then_some(bytes))
    }
}

impl DeployState {
    /// Refuses an artifact whose length says that it is too large.
    pub(super) fn check_length(&self, length: Option<u64>) -> Result<(), DeployError> {
        let max_bytes = self.artifact_bytes;
        match length.is_some_and(|bytes| bytes > max_bytes) {
            true => Err(store::Error::TooLarge { max_bytes }.into()),
            false => Ok(()),
        }
    }

    /// Reads an artifact into a file of the store. It must have the digest that was announced.
    pub(super) async fn receive_bytes<E>(
        &self,
        announced: Option<Digest>,
        bytes: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<StoredUpload, DeployError>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let mut file = self.store.begin_upload(self.artifact_bytes).await?;
        let mut bytes = std::pin::pin!(bytes);
        while let Some(chunk) = bytes.next().await {
            file.write(&chunk.map_err(|error| DeployError::Receive(error.into()))?).await?;
        }
        let artifact = file.finish().await?;
        let received = artifact.digest();
        match announced.filter(|announced| *announced != received) {
            Some(announced) => Err(DeployError::DigestMismatch { announced, received }),
            None => Ok(artifact),
        }
    }
}
