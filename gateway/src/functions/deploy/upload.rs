//! The description of an artifact by its sender, independent of the protocol.
//!
//! Every way to deploy ends in an [`Upload`] and a stream of bytes: the control plane's PUT is one
//! of them.

use std::sync::Arc;

use runtime_pool::Uploader;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use store::{Digest, IdempotentRequest, Release, StoredUpload};

use crate::functions::{
    deploy::change_condition::ChangeCondition, name::FunctionName, qualified_name::QualifiedName,
};

/// The id of a token. What all tokens share is shared by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenId(pub(crate) Arc<str>);

impl TokenId {
    /// Its holder at the compiler, where uploaders take turns.
    pub(crate) fn uploader(&self) -> Uploader {
        Uploader::new(&self.0)
    }
}

/// Who asks for a change, and from where.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub(crate) token: TokenId,
    /// The address of the client, or the local user.
    pub(crate) origin: Arc<str>,
}

impl Actor {
    /// The same as the store records it.
    pub(crate) fn recorded(&self) -> store::Actor<'_> {
        store::Actor { token: &self.token.0, origin: &self.origin }
    }
}

/// A request to deploy an artifact as a function. The artifact's bytes come with it as a stream.
pub(crate) struct Upload {
    pub(crate) function: QualifiedName,
    pub(crate) actor: Actor,
    /// What its sender says of the new revision.
    pub(crate) release: Release,
    /// A JSON merge patch (RFC 7396) on the settings of the active revision.
    pub(crate) settings: Option<Value>,
    pub(crate) precondition: ChangeCondition,
    pub(crate) idempotency: Option<IdempotencyKey>,
    /// The digest that the bytes must have.
    pub(crate) digest: Option<Digest>,
    /// The number of bytes, where the sender announces it. An upload that is too large is then
    /// refused before its first byte is read.
    pub(crate) length: Option<u64>,
}

/// The sender's name for an upload. A second upload with the same key is answered like the first
/// one, and is refused if it is not the same.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct IdempotencyKey {
    pub(crate) text: String,
    /// All parameters of the upload except name and artifact, in one form. Two uploads are the same
    /// if their parameters, names and digests are equal.
    pub(crate) parameters: Vec<u8>,
}

impl IdempotencyKey {
    /// Identifies the whole upload.
    pub(crate) fn fingerprint(&self, function: &FunctionName, digest: &Digest) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(&self.parameters);
        for part in [function.as_str().as_bytes(), digest.as_bytes()] {
            // With its length: otherwise the end of one part could be taken for the beginning of
            // the next.
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize().into()
    }
}

/// An upload whose bytes are on disk.
pub(crate) struct ReceivedUpload {
    pub(crate) function: QualifiedName,
    pub(crate) actor: Actor,
    pub(crate) release: Release,
    pub(crate) settings: Option<Value>,
    pub(crate) precondition: ChangeCondition,
    pub(crate) artifact: StoredUpload,
    /// The idempotency key and the fingerprint of the upload.
    pub(crate) idempotency: Option<(String, [u8; 32])>,
}

impl ReceivedUpload {
    /// Whether its sender has said no more of it than is known of an equal revision.
    pub(crate) fn says_nothing_new_of(&self, known: &Release) -> bool {
        let Release { semver, labels } = &self.release;
        (semver.is_none() || *semver == known.semver)
            && (labels.is_empty() || *labels == known.labels)
    }

    /// The upload as the store remembers it.
    pub(crate) fn request(&self) -> Option<IdempotentRequest<'_>> {
        let (key, fingerprint) = self.idempotency.as_ref()?;
        Some(IdempotentRequest { key, token: &self.actor.token.0, fingerprint: *fingerprint })
    }
}
