//! The streams of `wasi:filesystem` 0.3. Two of them may be connected to each other, so that no code of
//! the guest runs: they yield as all long work of the host does.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::sync::oneshot;
use wasmtime::{
    StoreContextMut,
    component::{Destination, Source, StreamConsumer, StreamProducer, StreamResult, VecBuffer},
};
use wasmtime_wasi::p3::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};

use crate::{
    engine::cpu_meter::{host_must_yield, note_host_work},
    host::{
        Host,
        files::{READ_BYTES, handle::Handle, node::Fetch, refused::PosixRefusal},
    },
};

/// What a directory entry is counted as, besides its name.
const ENTRY_BYTES: usize = 64;

/// Tells the guest how a stream has ended.
struct End(Option<oneshot::Sender<Result<(), ErrorCode>>>);

/// Reads a file from a place on.
pub(super) struct FileProducer {
    handle: Handle,
    offset: u64,
    /// A read that waits for the disk.
    fetching: Option<Fetch>,
    end: End,
}

/// Writes a file from a place on, or at its end.
pub(super) struct FileConsumer {
    handle: Handle,
    offset: Option<u64>,
    end: End,
}

/// Reads a directory.
pub(super) struct EntryProducer {
    handle: Handle,
    place: u64,
    end: End,
}

impl End {
    fn tell(&mut self, result: Result<(), ErrorCode>) {
        if let Some(sender) = self.0.take() {
            // There is no receiver if nobody will ask.
            let _ = sender.send(result);
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.tell(Ok(()));
    }
}

impl FileProducer {
    pub(super) fn new(
        handle: Handle,
        offset: u64,
        end: oneshot::Sender<Result<(), ErrorCode>>,
    ) -> Self {
        Self { handle, offset, fetching: None, end: End(Some(end)) }
    }

    /// What comes next, at most `most` bytes.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<Result<Vec<u8>, PosixRefusal>> {
        if self.fetching.is_none() {
            let mut bytes = vec![0; most.min(READ_BYTES)];
            match self.handle.read_now(self.offset, &mut bytes) {
                Ok(Some(read)) => {
                    bytes.truncate(read);
                    return Poll::Ready(Ok(bytes));
                }
                Ok(None) => {}
                Err(refused) => return Poll::Ready(Err(refused)),
            }
        }
        let fetch = || self.handle.fetch(self.offset, most.min(READ_BYTES));
        let read = ready!(self.fetching.get_or_insert_with(fetch).as_mut().poll(cx));
        self.fetching = None;
        Poll::Ready(read)
    }
}

impl FileConsumer {
    pub(super) fn new(
        handle: Handle,
        offset: Option<u64>,
        end: oneshot::Sender<Result<(), ErrorCode>>,
    ) -> Self {
        Self { handle, offset, end: End(Some(end)) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, PosixRefusal> {
        let (written, end) = self.handle.write(self.offset, bytes)?;
        self.offset = self.offset.map(|_| end);
        Ok(written)
    }
}

impl EntryProducer {
    pub(super) fn new(handle: Handle, end: oneshot::Sender<Result<(), ErrorCode>>) -> Self {
        Self { handle, place: 0, end: End(Some(end)) }
    }

    /// The next entries, at most `most` of them.
    fn next(&mut self, most: usize) -> Vec<DirectoryEntry> {
        let mut found = Vec::new();
        let (mut bytes, mut next) = (0, self.place);
        // A descriptor that is no directory has no such stream.
        let _ = self.handle.entries(self.place, |entry| {
            let type_ = match entry.is_directory {
                true => DescriptorType::Directory,
                false => DescriptorType::RegularFile,
            };
            found.push(DirectoryEntry { type_, name: entry.name.to_owned() });
            next = entry.place + 1;
            bytes += ENTRY_BYTES + entry.name.len();
            bytes <= READ_BYTES && found.len() < most
        });
        self.place = next;
        note_host_work(bytes);
        found
    }
}

/// Ready unless the host has worked for the guest for as long as it may in one poll.
fn turn(cx: &Context<'_>, store: &mut StoreContextMut<'_, Host>) -> Poll<()> {
    if host_must_yield(store.data_mut().limits.guest.tick) {
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    Poll::Ready(())
}

impl StreamProducer<Host> for FileProducer {
    type Item = u8;
    type Buffer = VecBuffer<u8>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, Host>,
        mut destination: Destination<'a, u8, VecBuffer<u8>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if finish {
            return Poll::Ready(Ok(StreamResult::Cancelled));
        }
        ready!(turn(cx, &mut store));
        let most = destination.remaining(&mut store).unwrap_or(READ_BYTES);
        if most == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let result = match ready!(self.poll_read(cx, most)) {
            Ok(bytes) if bytes.is_empty() => Ok(()),
            Ok(bytes) => {
                note_host_work(bytes.len());
                self.offset += bytes.len() as u64;
                destination.set_buffer(bytes.into());
                return Poll::Ready(Ok(StreamResult::Completed));
            }
            Err(refused) => Err(refused.into()),
        };
        self.end.tell(result);
        Poll::Ready(Ok(StreamResult::Dropped))
    }
}

impl StreamProducer<Host> for EntryProducer {
    type Item = DirectoryEntry;
    type Buffer = VecBuffer<DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, Host>,
        mut destination: Destination<'a, DirectoryEntry, VecBuffer<DirectoryEntry>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if finish {
            return Poll::Ready(Ok(StreamResult::Cancelled));
        }
        ready!(turn(cx, &mut store));
        let most = destination.remaining(&mut store).unwrap_or(1);
        if most == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let entries = self.next(most);
        if entries.is_empty() {
            self.end.tell(Ok(()));
            return Poll::Ready(Ok(StreamResult::Dropped));
        }
        destination.set_buffer(entries.into());
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

impl StreamConsumer<Host> for FileConsumer {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'_, Host>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if finish {
            return Poll::Ready(Ok(StreamResult::Cancelled));
        }
        ready!(turn(cx, &mut store));
        let mut source = source.as_direct(store);
        let bytes = source.remaining();
        let bytes = &bytes[..bytes.len().min(READ_BYTES)];
        match self.write(bytes) {
            Ok(written) => {
                note_host_work(written);
                source.mark_read(written);
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Err(refused) => {
                self.end.tell(Err(refused.into()));
                Poll::Ready(Ok(StreamResult::Dropped))
            }
        }
    }
}
