//! SQLite: one writer and a pool of readers per file, migrations, and columns of our own types.

mod batches;
mod columns;
mod database;

pub(crate) use self::{
    batches::Batches,
    columns::{json, sha256, to_json},
    database::{Database, WriteTransaction},
};
