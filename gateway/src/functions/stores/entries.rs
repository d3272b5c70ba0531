//! Entries of a store, as people read and write them: one by one, and all of them as lines of JSON.
//!
//! An export is a line of JSON for each entry, and an import takes such lines. A value is in a line as text if it is
//! text, else in Base64.

use std::{collections::VecDeque, error::Error as StdError, pin::pin, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, future, stream};
use gateway_api::EntryLine;
use jiff::Timestamp;
use runtime_pool::{Entry, Expect, KeyPage, ListedKey, Put, Refused, Written};

use crate::{
    functions::stores::{StoreError, table::NamedStore},
    telemetry::clock::{now_ms, rfc3339},
};

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 1 << 10;
/// Bytes of a value: the most that any function may write.
pub(crate) const VALUE_BYTES: usize = 25 << 20;
/// Bytes of the text beside a value.
const METADATA_BYTES: usize = 1 << 10;
/// The longest time for which an entry may be there: ten years.
const TTL_S_MAX: u64 = 10 * 365 * 24 * 3_600;
/// Bytes of a line: of a value that is text, JSON escapes each character by one more.
const LINE_BYTES: usize = 2 * VALUE_BYTES + (64 << 10);
/// Keys that an export asks for at once, and the bytes of its pieces.
const EXPORT_KEYS: usize = 100;
const PIECE_BYTES: usize = 64 << 10;
/// Lines that an import writes at once, and their bytes: a commit for all of them.
const IMPORT_LINES: usize = 64;
const IMPORT_BYTES: usize = 4 << 20;

/// An entry to be written.
#[derive(Debug)]
pub(crate) struct SentEntry {
    pub(crate) key: String,
    pub(crate) value: Bytes,
    pub(crate) ttl: Option<Duration>,
    pub(crate) metadata: Option<String>,
}

impl SentEntry {
    fn check(&self) -> Result<(), StoreError> {
        check_key(&self.key)?;
        if self.value.len() > VALUE_BYTES {
            return Err(Refused::TooLarge { what: "a value", most: VALUE_BYTES as u64 }.into());
        }
        if self.metadata.as_ref().is_some_and(|text| text.len() > METADATA_BYTES) {
            return Err(Refused::TooLarge { what: "metadata", most: METADATA_BYTES as u64 }.into());
        }
        if self.ttl.is_some_and(|ttl| ttl.is_zero() || ttl.as_secs() > TTL_S_MAX) {
            let why = format!("an entry expires after 1 to {TTL_S_MAX} seconds, or never");
            return Err(StoreError::Entry(why));
        }
        Ok(())
    }
}

fn check_key(key: &str) -> Result<(), StoreError> {
    if key.len() > KEY_BYTES {
        return Err(Refused::TooLarge { what: "a key", most: KEY_BYTES as u64 }.into());
    }
    Ok(())
}

impl NamedStore {
    /// Reads an entry.
    pub(crate) async fn entry(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        check_key(key)?;
        Ok(self.data.get(&self.guest, key).await?)
    }

    /// Writes an entry if what is there is as expected.
    pub(crate) async fn write(
        &self,
        new: &SentEntry,
        expect: Expect,
    ) -> Result<Written, StoreError> {
        new.check()?;
        let SentEntry { key, value, ttl, metadata } = new;
        let (value, ttl, metadata) = (value.clone(), *ttl, metadata.as_deref());
        Ok(self.data.put(&self.guest, Put { key, value, expect, ttl, metadata }).await?)
    }

    /// All entries, as lines of JSON in the order of their keys. Entries that others write meanwhile may be in
    /// it or not.
    pub(crate) fn export(
        self: Arc<Self>,
    ) -> impl Stream<Item = Result<Bytes, Refused>> + Send + 'static {
        let export = StoreExport { store: self, keys: VecDeque::new(), after: None, more: true };
        stream::try_unfold(export, StoreExport::piece)
    }

    /// Writes the entries of lines of JSON, in place of those with the same keys. Returns how many. Of an error,
    /// the lines before the one that it names are written.
    pub(crate) async fn import<E>(
        &self,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<u64, StoreError>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let mut body = pin!(body);
        let mut import =
            StoreImport { store: self, line: 0, waiting: Vec::new(), bytes: 0, written: 0 };
        let mut rest: Vec<u8> = Vec::new();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| StoreError::Receive(error.into()))?;
            let mut piece = &piece[..];
            while let Some(end) = memchr::memchr(b'\n', piece) {
                rest.extend_from_slice(&piece[..end]);
                import.take(&rest).await?;
                rest.clear();
                piece = &piece[end + 1..];
            }
            rest.extend_from_slice(piece);
            if rest.len() > LINE_BYTES {
                let why = format!("it has more than {LINE_BYTES} bytes");
                import.write().await?;
                return Err(import.refused(import.line + 1, StoreError::Entry(why)));
            }
        }
        import.take(&rest).await?;
        import.write().await?;
        Ok(import.written)
    }
}

struct StoreExport {
    store: Arc<NamedStore>,
    keys: VecDeque<ListedKey>,
    after: Option<String>,
    more: bool,
}

impl StoreExport {
    /// The next lines.
    async fn piece(mut self) -> Result<Option<(Bytes, Self)>, Refused> {
        let mut lines = Vec::new();
        while lines.len() < PIECE_BYTES {
            let Some(key) = self.next_key().await? else { break };
            // It may have gone since its key was listed.
            if let Some(entry) = self.store.data.get(&self.store.guest, &key.name).await? {
                let line = line(key.name, entry);
                serde_json::to_writer(&mut lines, &line).expect("texts have a JSON form");
                lines.push(b'\n');
            }
        }
        Ok((!lines.is_empty()).then(|| (lines.into(), self)))
    }

    async fn next_key(&mut self) -> Result<Option<ListedKey>, Refused> {
        if self.keys.is_empty() && self.more {
            let page = KeyPage { prefix: "", after: self.after.as_deref(), limit: EXPORT_KEYS };
            let page = self.store.data.list(&self.store.guest, page).await?;
            (self.keys, self.more) = (page.keys.into(), page.more);
        }
        let next = self.keys.pop_front();
        if let Some(key) = &next {
            self.after = Some(key.name.clone());
        }
        Ok(next)
    }
}

/// An entry as a line.
fn line(key: String, entry: Entry) -> EntryLine {
    // Other control characters are written with six bytes each.
    let is_plain = |text: &str| {
        !text.chars().any(|c| c.is_ascii_control() && !matches!(c, '\n' | '\r' | '\t'))
    };
    let (value, value_base64) = match str::from_utf8(&entry.value) {
        Ok(text) if is_plain(text) => (Some(text.to_owned()), None),
        Ok(_) | Err(_) => (None, Some(STANDARD.encode(&entry.value))),
    };
    let expires_at = entry.expires_ms.map(rfc3339);
    let metadata = entry.metadata.map(|text| text.to_string());
    EntryLine { key, value, value_base64, expires_at, metadata }
}

/// The entry of a line. `None` if it has expired.
fn entry(line: &[u8]) -> Result<Option<SentEntry>, StoreError> {
    let refused = |why: String| StoreError::Entry(why);
    let line: EntryLine =
        serde_json::from_slice(line).map_err(|error| refused(error.to_string()))?;
    let value = match (line.value, line.value_base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(coded)) => {
            STANDARD.decode(coded).map_err(|error| refused(format!("value_base64: {error}")))?
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(refused("it needs one of `value` and `value_base64`".to_owned()));
        }
    };
    let ttl = match line.expires_at.as_deref().map(str::parse::<Timestamp>).transpose() {
        Ok(None) => None,
        Ok(Some(at)) => {
            let left = at.as_millisecond().saturating_sub(now_ms());
            match u64::try_from(left) {
                Ok(left @ 1..) => Some(Duration::from_millis(left)),
                Ok(0) | Err(_) => return Ok(None),
            }
        }
        Err(error) => return Err(refused(format!("expires_at: {error}"))),
    };
    Ok(Some(SentEntry { key: line.key, value: value.into(), ttl, metadata: line.metadata }))
}

struct StoreImport<'a> {
    store: &'a NamedStore,
    /// The number of the last line that was read.
    line: u64,
    /// Entries that are to be written, by the numbers of their lines, and their bytes.
    waiting: Vec<(u64, SentEntry)>,
    bytes: usize,
    written: u64,
}

impl StoreImport<'_> {
    /// Takes a line.
    async fn take(&mut self, line: &[u8]) -> Result<(), StoreError> {
        self.line += 1;
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        match entry(line) {
            Ok(Some(entry)) => {
                self.bytes += entry.key.len() + entry.value.len();
                self.waiting.push((self.line, entry));
            }
            Ok(None) => {}
            Err(error) => {
                self.write().await?;
                return Err(self.refused(self.line, error));
            }
        }
        if self.waiting.len() >= IMPORT_LINES || self.bytes >= IMPORT_BYTES {
            self.write().await?;
        }
        Ok(())
    }

    /// Writes what waits.
    async fn write(&mut self) -> Result<(), StoreError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        // Of two lines with one key the later one holds: what waits is written in the order of the lines.
        let writes = waiting.iter().map(|(_, entry)| self.store.write(entry, Expect::Anything));
        let outcomes = future::join_all(writes).await;
        for ((line, _), outcome) in waiting.iter().zip(outcomes) {
            outcome.map_err(|error| self.refused(*line, error))?;
            self.written += 1;
        }
        Ok(())
    }

    fn refused(&self, line: u64, error: StoreError) -> StoreError {
        StoreError::Line { line, error: Box::new(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &'static [u8]) -> EntryLine {
        let entry = Entry {
            value: Bytes::from_static(value),
            version: 1,
            expires_ms: None,
            metadata: Some("m".into()),
        };
        line("k".to_owned(), entry)
    }

    #[test]
    fn a_value_is_text_where_that_is_shorter_and_comes_back() {
        for (value, is_text) in [
            (&b"text\n\"quoted\" \\"[..], true),
            ("\u{e9}\u{1f600}".as_bytes(), true),
            (b"", true),
            (b"\0\0", false),
            (b"\xff", false),
        ] {
            let line = shown(value);
            assert_eq!((line.value.is_some(), line.value_base64.is_none()), (is_text, is_text));
            let json = serde_json::to_vec(&line).unwrap();
            let read = entry(&json).unwrap().unwrap();
            assert_eq!((&*read.key, &*read.value), ("k", value));
            assert_eq!(read.metadata.as_deref(), Some("m"));
        }
    }

    #[test]
    fn a_line_that_says_nothing_or_too_much_is_refused_and_one_that_has_expired_is_left_out() {
        for (line, why) in [
            (r#"{"key": "k"}"#, "one of"),
            (r#"{"key": "k", "value": "a", "value_base64": "YQ=="}"#, "one of"),
            (r#"{"key": "k", "value_base64": "?"}"#, "value_base64"),
            (r#"{"key": "k", "value": "a", "expires_at": "soon"}"#, "expires_at"),
            (r#"{"value": "a"}"#, "missing field `key`"),
            (r#"{"key": "k", "value": "a", "ttl": 1}"#, "unknown field"),
            ("[]", "expected"),
        ] {
            let refused = entry(line.as_bytes()).unwrap_err().to_string();
            assert!(refused.contains(why), "{line}: {refused}");
        }
        let expired = r#"{"key": "k", "value": "a", "expires_at": "2001-01-01T00:00:00Z"}"#;
        assert!(entry(expired.as_bytes()).unwrap().is_none());
        let later = r#"{"key": "k", "value": "a", "expires_at": "2999-01-01T00:00:00Z"}"#;
        assert!(entry(later.as_bytes()).unwrap().unwrap().ttl.is_some());
    }
}
