//! Version 2 of the PROXY protocol, by which a proxy names the client of a connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_BYTES: usize = 16;
/// Limit on the bytes after the fixed part: addresses and extensions. Too few for certificates,
/// which the gateway does not need.
const BYTES: usize = 4 << 10;

/// Reads the header that must begin a connection. The inner `None` means that the proxy names no
/// client, for example because the connection is its own; the outer `None` means that the header is
/// missing or invalid.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Option<SocketAddr>> {
    let mut fixed = [0; FIXED_BYTES];
    stream.read_exact(&mut fixed).await.ok()?;
    let length = length(&fixed)?;
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await.ok()?;
    client(&fixed, &rest)
}

/// How many bytes follow the fixed part.
fn length(fixed: &[u8; FIXED_BYTES]) -> Option<usize> {
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    (fixed.starts_with(SIGNATURE) && fixed[12] >> 4 == 2 && length <= BYTES).then_some(length)
}

/// The client that the header names.
fn client(fixed: &[u8; FIXED_BYTES], rest: &[u8]) -> Option<Option<SocketAddr>> {
    const LOCAL: u8 = 0;
    const PROXY: u8 = 1;
    match (fixed[12] & 0xf, fixed[13]) {
        // Health checks of the proxy itself, and clients whose address it cannot express.
        (LOCAL, _) | (PROXY, 0x00) => Some(None),
        (PROXY, 0x11) => {
            let addresses: &[u8; 12] = rest.first_chunk()?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            let port = u16::from_be_bytes([high, low]);
            Some(Some((Ipv4Addr::new(a, b, c, d), port).into()))
        }
        (PROXY, 0x21) => {
            let addresses: &[u8; 36] = rest.first_chunk()?;
            let source: &[u8; 16] = addresses.first_chunk()?;
            let ip = IpAddr::V6(Ipv6Addr::from(*source)).to_canonical();
            Some(Some((ip, u16::from_be_bytes([addresses[32], addresses[33]])).into()))
        }
        // Datagrams, Unix sockets, unknown commands and unknown families.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
    }

    fn parsed(bytes: &[u8]) -> Option<Option<SocketAddr>> {
        read(&mut &bytes[..]).now_or_never().expect("bytes in memory are ready at once")
    }

    #[test]
    fn a_proxy_names_its_client_or_says_that_the_connection_is_its_own() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x1f, 0x90, 0, 80, 3, 0, 1, 7];
        assert_eq!(parsed(&header(0x21, 0x11, &v4)), Some(Some("192.0.2.1:8080".parse().unwrap())));
        assert_eq!(parsed(&header(0x20, 0x11, &v4)), Some(None));
        assert_eq!(parsed(&header(0x21, 0x00, &[])), Some(None));
        assert_eq!(parsed(&header(0x21, 0x12, &v4)), None, "a datagram");
        assert_eq!(parsed(&header(0x31, 0x11, &v4)), None, "a version that does not exist");
        assert_eq!(parsed(&header(0x21, 0x21, &v4)), None, "too short for its family");
        assert_eq!(parsed(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"), None);
    }

    proptest! {
        #[test]
        fn addresses_come_back_as_they_were_sent(source: [u8; 16], port: u16, rest: Vec<u8>) {
            let address = SocketAddr::new(IpAddr::from(source).to_canonical(), port);
            let target = [0; 16];
            let ports = [port.to_be_bytes(), [0, 80]].concat();
            let sent = [&source, &target, ports.as_slice(), &rest].concat();
            prop_assert_eq!(parsed(&header(0x21, 0x21, &sent)), Some(Some(address)));
        }

        #[test]
        fn no_bytes_make_it_panic(command: u8, family: u8, length: u16, rest: Vec<u8>) {
            let mut bytes = header(command, family, &rest);
            bytes[14..16].copy_from_slice(&length.to_be_bytes());
            if length > u16::try_from(rest.len()).unwrap() {
                prop_assert_eq!(parsed(&bytes), None);
            } else {
                let _ = parsed(&bytes);
            }
        }
    }
}
