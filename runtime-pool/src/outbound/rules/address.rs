//! Which addresses may guests call?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::outbound::{
    config::{AddressRange, OutboundConfig},
    failure::OutboundFailure,
};

/// The addresses on which this gateway listens.
#[derive(Clone, Debug, Default)]
pub struct Listeners {
    /// The data plane, where functions are called.
    pub data: Vec<SocketAddr>,
    /// The control plane: the API, metrics, probes.
    pub control: Vec<SocketAddr>,
}

/// Checks an address that a guest's grants have led to.
pub(in crate::outbound) fn vet(
    config: &OutboundConfig,
    listeners: &Listeners,
    address: SocketAddr,
) -> Result<(), OutboundFailure> {
    // An IPv4 address in an IPv6 form is the same host.
    let ip = address.ip().to_canonical();
    let within =
        |ranges: &[AddressRange], ip: IpAddr| ranges.iter().any(|range| range.contains(ip));
    if within(&config.deny, ip) {
        return Err(OutboundFailure::Denied(ip));
    }
    let listens = |listeners: &[SocketAddr]| {
        listeners.iter().any(|listener| listener.port() == address.port())
    };
    let (data, control) = (listens(&listeners.data), listens(&listeners.control));
    if (data || control) && is_own(ip) {
        if control || !config.allow_data_plane {
            return Err(OutboundFailure::Gateway(ip));
        }
        return Ok(());
    }
    if config.allow_private || is_public(address.ip()) || within(&config.permit, address.ip()) {
        return Ok(());
    }
    Err(OutboundFailure::NotPublic(ip))
}

/// Whether an address is this machine's. Slow, but only needed for ports that the gateway listens
/// on.
fn is_own(ip: IpAddr) -> bool {
    // A connection to the unspecified address reaches the machine itself.
    if ip.is_loopback() || ip.is_unspecified() {
        return true;
    }
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.iter().any(|interface| interface.ip() == ip),
        // If the interfaces are unknown, the address counts as the machine's own.
        Err(_) => true,
    }
}

/// Whether an address is globally reachable. The other ranges are those of the IANA registries of
/// special-purpose addresses (RFC 6890 and its updates), and those that a provider has registered
/// for the Internet and uses inside a customer's network.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address) && !is_providers_own(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || a == 10
        || a == 127
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 31 && c == 196)
        || (a == 192 && b == 52 && c == 193)
        || (a == 192 && b == 88 && c == 99)
        || (a == 192 && b == 168)
        || (a == 192 && b == 175 && c == 48)
        || (a == 198 && (b == 18 || b == 19))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113))
}

/// Services of the machine's provider that listen on addresses which look public. Those of other
/// providers are link-local (169.254.169.254 and its like), shared (100.100.100.200), assigned by
/// IETF (192.0.0.192) or unique local (fd00:ec2::254, fd20:ce::254).
fn is_providers_own(address: Ipv4Addr) -> bool {
    match address.octets() {
        // Azure's agent of the host: DNS, configuration, certificates of the machine.
        // https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
        [168, 63, 129, 16] => true,
        // The services of a cluster of GKE, its API server among them, as a rule.
        // https://cloud.google.com/kubernetes-engine/docs/concepts/alias-ips
        [34, 118, c, _] => (224..240).contains(&c),
        _ => false,
    }
}

/// Only 2000::/3 is assigned. Some ranges within it embed other addresses.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    a & 0xe000 == 0x2000
        // Protocol assignments, among them Teredo; documentation; 6to4; documentation again.
        && !(a == 0x2001 && b < 0x0200)
        && !(a == 0x2001 && b == 0x0db8)
        && a != 0x2002
        && !(a == 0x3fff && b < 0x1000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::outbound::rules::target::Target;

    #[test]
    fn special_addresses_are_not_public() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.0.1",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "34.118.224.1",
            "34.118.239.255",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:168.63.129.16",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    fn verdict(config: &OutboundConfig, address: &str) -> &'static str {
        let listeners = Listeners {
            data: vec!["0.0.0.0:8080".parse().unwrap()],
            control: vec!["127.0.0.1:9090".parse().unwrap()],
        };
        match vet(config, &listeners, address.parse().unwrap()) {
            Ok(()) => "ok",
            Err(failure) => failure.outcome(),
        }
    }

    #[test]
    fn private_addresses_may_be_called_only_where_they_are_permitted() {
        let ranges = |ranges: &[&str]| ranges.iter().map(|range| range.parse().unwrap()).collect();
        let permit = OutboundConfig {
            permit: ranges(&["10.1.0.0/16", "fd00::7"]),
            deny: ranges(&["10.1.2.0/24", "8.8.8.8"]),
            ..OutboundConfig::default()
        };
        for (address, expected) in [
            ("10.1.0.1:80", "ok"),
            ("[fd00::7]:80", "ok"),
            ("1.1.1.1:80", "ok"),
            ("10.2.0.1:80", "not-public"),
            ("[fd00::8]:80", "not-public"),
            ("[::ffff:10.1.0.1]:80", "not-public"),
            ("10.1.2.3:80", "denied"),
            ("8.8.8.8:80", "denied"),
            ("[::ffff:8.8.8.8]:80", "denied"),
        ] {
            assert_eq!(verdict(&permit, address), expected, "{address}");
        }
    }

    /// Case S05.
    #[test]
    fn the_gateways_own_listeners_are_out_of_reach_whatever_is_permitted() {
        let all = OutboundConfig { allow_private: true, ..OutboundConfig::default() };
        let with_data = OutboundConfig { allow_data_plane: true, ..OutboundConfig::default() };
        let mut own =
            vec!["127.0.0.1", "127.9.9.9", "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.1]"]
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>();
        for interface in if_addrs::get_if_addrs().unwrap() {
            own.push(match interface.ip() {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            });
        }
        for host in own {
            for config in [&all, &with_data] {
                assert_eq!(verdict(config, &format!("{host}:9090")), "gateway", "{host}");
            }
            assert_eq!(verdict(&all, &format!("{host}:8080")), "gateway", "{host}");
            assert_eq!(verdict(&with_data, &format!("{host}:8080")), "ok", "{host}");
            assert_eq!(verdict(&all, &format!("{host}:8081")), "ok", "{host}");
        }
        assert_eq!(verdict(&all, "10.0.0.1:9090"), "ok");
    }

    #[test]
    fn ordinary_addresses_are_public() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "34.118.223.255",
            "34.118.240.0",
            "168.63.129.15",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "223.255.255.255",
            "2001:4860:4860::8888",
            "2606:4700::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    /// An IPv4 address in one to four parts, each in one of the bases that resolvers read.
    fn spelling(ip: Ipv4Addr, parts: u32, bases: &[u8]) -> String {
        let number = u32::from(ip);
        let mut texts = Vec::new();
        for part in 0..parts {
            let last = part + 1 == parts;
            // The last part holds all that is left.
            let value = if last {
                number & (u32::MAX >> (8 * part))
            } else {
                number >> (24 - 8 * part) & 0xff
            };
            texts.push(match bases[part as usize] % 4 {
                0 => format!("{value}"),
                1 => format!("0{value:o}"),
                2 => format!("0x{value:x}"),
                _ => format!("0X{value:08X}"),
            });
        }
        texts.join(".")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        /// Case S01.
        #[test]
        fn every_spelling_of_a_private_address_is_refused(
            network in proptest::sample::select(vec![
                (0, 8), (10 << 24, 8), (0x6440_0000, 10), (127 << 24, 8), (0xa9fe_0000, 16),
                (0xac10_0000, 12), (0xc000_0200, 24), (0xc0a8_0000, 16), (0xc612_0000, 15),
                (0xe000_0000, 4), (0xf000_0000, 4),
            ]),
            host: u32,
            parts in 1u32..=4,
            bases: [u8; 4],
            form in 0u8..7,
        ) {
            let (network, prefix): (u32, u32) = network;
            let ip = Ipv4Addr::from(network | host & (u32::MAX >> prefix));
            let [a, b, c, d] = ip.octets().map(u16::from);
            let text = match form {
                0 => format!("[::ffff:{ip}]"),
                1 => format!("[::{:x}:{:x}]", a << 8 | b, c << 8 | d),
                2 => format!("[64:ff9b::{:x}:{:x}]", a << 8 | b, c << 8 | d),
                3 => format!("[2002:{:x}:{:x}::1]", a << 8 | b, c << 8 | d),
                4 => format!("{}.", spelling(ip, parts, &bases)),
                _ => spelling(ip, parts, &bases),
            };
            let target = Target::of(&format!("http://{text}/").parse().unwrap());
            let ip = match target.unwrap().host {
                url::Host::Ipv4(ip) => IpAddr::V4(ip),
                url::Host::Ipv6(ip) => IpAddr::V6(ip),
                url::Host::Domain(name) => panic!("{text} is a name: {name}"),
            };
            let config = OutboundConfig::default();
            let verdict = vet(&config, &Listeners::default(), SocketAddr::new(ip, 80));
            prop_assert!(verdict.is_err(), "{}", text);
        }
    }
}
