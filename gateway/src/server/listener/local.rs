//! The Unix socket of a plane: the gateway's own user and root reach it without a token.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::service::Service;
use rustix::process::{Uid, geteuid};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    time::Instant,
};

use crate::server::{
    connection::Connections, listener::accept_loop::accept_until_stopped,
    listener_control::ListenerControl, peer::Peer, tracking::IncomingBody,
};

/// A bound socket. Its file stays when the gateway ends: a client that finds the file and cannot
/// connect knows that the gateway is not running.
pub(crate) struct LocalSocket(UnixListener);

impl LocalSocket {
    /// Binds the socket in a directory that is the gateway's alone, in place of the socket of a
    /// gateway that has ended.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Self(listener))
    }

    /// A connection and the user at its other end; `None` if that user may not use the socket.
    async fn accept(&self) -> io::Result<Option<(UnixStream, u32)>> {
        let (stream, _) = self.0.accept().await?;
        let user = stream.peer_cred()?.uid();
        Ok(may_connect(user).then_some((stream, user)))
    }

    /// Serves the socket's connections until the listener stops.
    pub(crate) async fn run<M, S, B>(
        self,
        connections: Arc<Connections<M>>,
        control: watch::Receiver<ListenerControl>,
    ) where
        M: Fn(Peer) -> S + Send + Sync + 'static,
        S: Service<Request<IncomingBody>, Response = Response<B>> + Send + Unpin + 'static,
        S::Future: Send,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let take = |accepted| match accepted {
            Some(Some((stream, user))) => connections.serve_local(stream, user, Instant::now()),
            Some(None) => connections.refuse_user(),
            None => connections.accept_failed(),
        };
        accept_until_stopped(|| self.accept(), control, take).await;
    }
}

/// Root, and the user that the gateway runs as, could read the administrator's token anyway.
fn may_connect(user: u32) -> bool {
    user == Uid::ROOT.as_raw() || user == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case A11.
    #[test]
    fn only_root_and_the_gateways_own_user_may_connect() {
        let own = geteuid().as_raw();
        assert!(may_connect(0) && may_connect(own));
        assert!(!may_connect(own.wrapping_add(1)) && !may_connect(65_534));
    }

    /// Case A11.
    #[tokio::test]
    async fn the_socket_takes_the_place_of_one_that_is_left_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(LocalSocket::bind(&path).unwrap());
        assert!(path.exists(), "it stays for clients to find");
        let socket = LocalSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (client, accepted) = tokio::join!(UnixStream::connect(&path), socket.accept());
        client.unwrap();
        assert_eq!(accepted.unwrap().unwrap().1, geteuid().as_raw());
    }
}
