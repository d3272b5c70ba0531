//! What an owner deploys: functions, their settings, revisions and channels.

pub(crate) mod artifact;
pub(crate) mod channel;
pub(crate) mod function;
pub(crate) mod grants;
pub(crate) mod revision;
pub(crate) mod settings;
