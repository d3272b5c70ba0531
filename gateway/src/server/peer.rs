//! The other end of a connection.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::server::tls::hosts::CertificateId;

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
    /// The certificate of an owner that the connection is encrypted with. `None` for the listener's own.
    pub(crate) certificate: Option<CertificateId>,
    /// The user of this machine who has connected by the plane's Unix socket.
    pub(crate) local_user: Option<u32>,
}

/// The address that limits for each client count by: an IPv4 address, or the /64 network of an IPv6
/// address, because one client can use all addresses of its network.
pub(crate) fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_one_network_are_one_client() {
        let client = |address: &str| client_of(address.parse().unwrap()).to_string();
        assert_eq!(client("192.0.2.1"), "192.0.2.1");
        assert_eq!(client("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(client("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(client("2001:db8:1:2:ffff:ffff:ffff:ffff"), "2001:db8:1:2::");
        assert_ne!(client("2001:db8:1:3::1"), client("2001:db8:1:2::1"));
    }
}
