//! The other end of a connection.

use std::net::SocketAddr;

/// The client, or the proxy, at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// The address of the client: that of the socket, or the one that a proxy has named in the
    /// header of the PROXY protocol.
    pub(crate) addr: SocketAddr,
    /// Whether the gateway believes what the peer says about the client.
    pub(crate) trusted: bool,
    /// Whether the connection is encrypted.
    pub(crate) tls: bool,
}
