//! What is read from a certificate and its key, which an owner sends as PEM.

use std::{collections::BTreeSet, sync::Arc};

use ring::digest::{SHA256, digest};
use tokio_rustls::rustls::{
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, parse_x509_certificate,
    public_key::PublicKey,
};

/// Bytes of the chain and of the key. Arbitrary, large enough.
const CHAIN_BYTES: usize = 64 << 10;
const KEY_BYTES: usize = 16 << 10;
/// Certificates of a chain. Public authorities send two or three.
const CHAIN: usize = 10;
/// Host names of one certificate, as many as public authorities allow.
const HOSTS: usize = 100;
/// Bits of a key of RSA.
const RSA_BITS: usize = 2048;
/// Bytes of a host's name.
const HOST_BYTES: usize = 253;

/// A chain with its key, which belong together.
#[derive(Debug)]
pub(crate) struct CheckedCertificate {
    pub(crate) key: Arc<CertifiedKey>,
    /// The names that it is for, in lower case and in order.
    pub(crate) hosts: Vec<String>,
    /// From when until when it is valid, in Unix milliseconds.
    pub(crate) not_before_ms: i64,
    pub(crate) not_after_ms: i64,
    /// The SHA-256 of the first certificate of the chain.
    pub(crate) fingerprint: String,
}

impl CheckedCertificate {
    /// Reads a chain and its key. An error says what is wrong with them, without the key.
    pub(crate) fn read(chain: &str, key: &str) -> Result<Self, String> {
        if chain.len() > CHAIN_BYTES {
            return Err(format!(
                "chain: it has {} bytes, at most {CHAIN_BYTES} are allowed",
                chain.len()
            ));
        }
        if key.len() > KEY_BYTES {
            return Err(format!(
                "key: it has {} bytes, at most {KEY_BYTES} are allowed",
                key.len()
            ));
        }
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| "chain: it is not PEM")?;
        if chain.is_empty() {
            return Err("chain: there is no certificate in it".to_owned());
        }
        if chain.len() > CHAIN {
            return Err(format!(
                "chain: it has {} certificates, at most {CHAIN} are allowed",
                chain.len()
            ));
        }
        // The cause could show a part of the key.
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| "key: there is no private key in PEM in it")?;
        let parsed = chain.iter().map(|der| parsed(der)).collect::<Result<Vec<_>, _>>()?;
        let [leaf, above @ ..] = &*parsed else { return Err("chain: it is empty".to_owned()) };
        check_order(leaf, above)?;
        check_strength(leaf)?;
        let hosts = hosts(leaf)?;
        let validity = leaf.validity();
        let milliseconds = |seconds: i64| seconds.saturating_mul(1_000);
        let not_before_ms = milliseconds(validity.not_before.timestamp());
        let not_after_ms = milliseconds(validity.not_after.timestamp());
        let fingerprint = digest(&SHA256, &chain[0]);
        let fingerprint = fingerprint.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        drop(parsed);
        let key = CertifiedKey::from_der(chain, key, &default_provider())
            .map_err(|error| format!("key: it does not belong to the certificate, or is of a kind that is not supported ({error})"))?;
        let key = Arc::new(key);
        Ok(Self { key, hosts, not_before_ms, not_after_ms, fingerprint })
    }

    /// Refuses a certificate that clients would refuse at this time.
    pub(crate) fn check_time(&self, now_ms: i64) -> Result<(), String> {
        if now_ms > self.not_after_ms {
            return Err("chain: the certificate has expired".to_owned());
        }
        if now_ms < self.not_before_ms {
            return Err("chain: the certificate is not valid yet".to_owned());
        }
        Ok(())
    }
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err("chain: a certificate in it cannot be read".to_owned()),
    }
}

/// Clients want each certificate to be followed by the one that has signed it.
fn check_order(leaf: &X509Certificate<'_>, above: &[X509Certificate<'_>]) -> Result<(), String> {
    let mut below = leaf;
    for (number, issuer) in above.iter().enumerate() {
        if below.issuer() != issuer.subject()
            || below.verify_signature(Some(issuer.public_key())).is_err()
        {
            return Err(format!(
                "chain: certificate {} has not signed the one before it",
                number + 2
            ));
        }
        below = issuer;
    }
    Ok(())
}

fn check_strength(leaf: &X509Certificate<'_>) -> Result<(), String> {
    match leaf.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < RSA_BITS => Err(format!(
            "chain: its key of RSA has {} bits, at least {RSA_BITS} are needed",
            key.key_size()
        )),
        _ => Ok(()),
    }
}

/// The names of the hosts that a certificate is for.
fn hosts(leaf: &X509Certificate<'_>) -> Result<Vec<String>, String> {
    let names = leaf
        .subject_alternative_name()
        .map_err(|_| "chain: the names of the certificate cannot be read")?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let mut hosts = BTreeSet::new();
    for name in names {
        // Clients do not name addresses in a handshake.
        let GeneralName::DNSName(name) = name else { continue };
        let name = name.to_ascii_lowercase();
        if !is_host(&name) {
            let shown: String = name.chars().take(HOST_BYTES).collect();
            return Err(format!("chain: {shown:?} is not the name of a host"));
        }
        hosts.insert(name);
    }
    if hosts.is_empty() {
        return Err("chain: the certificate names no host as a subject alternative name".to_owned());
    }
    if hosts.len() > HOSTS {
        return Err(format!(
            "chain: the certificate names {} hosts, at most {HOSTS} are allowed",
            hosts.len()
        ));
    }
    Ok(hosts.into_iter().collect())
}

/// Whether this is a name of at least two labels, the first of which may be a star if two more follow.
fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        let part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        matches!(label.len(), 1..=63)
            && label.bytes().all(part)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let (wildcard, rest) = match name.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, name),
    };
    let labels = rest.split('.').count();
    name.len() <= HOST_BYTES
        && rest.split('.').all(is_label)
        && if wildcard { labels >= 2 } else { labels >= 1 }
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{
        BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair,
        PKCS_ECDSA_P384_SHA384, PKCS_ED25519, date_time_ymd,
    };

    use super::*;

    fn params(hosts: &[&str]) -> CertificateParams {
        CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>())
            .unwrap()
    }

    fn self_signed(hosts: &[&str]) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (params(hosts).self_signed(&key).unwrap(), key)
    }

    fn refusal(chain: &str, key: &str) -> String {
        CheckedCertificate::read(chain, key).unwrap_err()
    }

    /// Case K01.
    #[test]
    fn a_chain_and_its_key_say_for_which_hosts_and_how_long() {
        let (certificate, key) = self_signed(&["B.example", "*.a.example", "127.0.0.1"]);
        let read = CheckedCertificate::read(&certificate.pem(), &key.serialize_pem()).unwrap();
        assert_eq!(read.hosts, ["*.a.example", "b.example"]);
        assert_eq!(read.fingerprint.len(), 64);
        assert!(read.not_before_ms < read.not_after_ms);
        assert_eq!(read.check_time(read.not_after_ms), Ok(()));
        assert!(read.check_time(read.not_after_ms + 1).unwrap_err().contains("has expired"));
        assert!(read.check_time(read.not_before_ms - 1).unwrap_err().contains("not valid yet"));
        for algorithm in [&PKCS_ED25519, &PKCS_ECDSA_P384_SHA384] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let certificate = params(&["a.example"]).self_signed(&key).unwrap();
            CheckedCertificate::read(&certificate.pem(), &key.serialize_pem()).unwrap();
        }
    }

    /// Case K01.
    #[test]
    fn a_chain_is_in_order_and_each_has_signed_the_one_before() {
        let authority = |name: &str| {
            let mut params = params(&[]);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params
        };
        let (root_key, middle_key, leaf_key) = (
            KeyPair::generate().unwrap(),
            KeyPair::generate().unwrap(),
            KeyPair::generate().unwrap(),
        );
        let root = authority("root");
        let root_certificate = root.self_signed(&root_key).unwrap();
        let root = Issuer::new(root, &root_key);
        let middle = authority("middle");
        let middle_certificate = middle.signed_by(&middle_key, &root).unwrap();
        let middle = Issuer::new(middle, &middle_key);
        let leaf = params(&["a.example"]).signed_by(&leaf_key, &middle).unwrap();
        let key = leaf_key.serialize_pem();
        let chain = |certificates: &[&Certificate]| {
            certificates.iter().map(|certificate| certificate.pem()).collect::<String>()
        };
        for whole in [
            chain(&[&leaf]),
            chain(&[&leaf, &middle_certificate]),
            chain(&[&leaf, &middle_certificate, &root_certificate]),
        ] {
            CheckedCertificate::read(&whole, &key).unwrap();
        }
        let text = refusal(&chain(&[&leaf, &root_certificate]), &key);
        assert!(text.contains("certificate 2 has not signed"), "{text}");
        let text = refusal(&chain(&[&middle_certificate, &leaf]), &key);
        assert!(text.contains("certificate 2 has not signed"), "{text}");
        // Of the same name, with another key.
        let other = authority("middle").self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert!(refusal(&chain(&[&leaf, &other]), &key).contains("certificate 2 has not signed"));
    }

    /// Case K01.
    #[test]
    fn what_is_no_certificate_with_its_key_is_refused_and_the_key_is_not_shown() {
        let (certificate, key) = self_signed(&["a.example"]);
        let (chain, key) = (certificate.pem(), key.serialize_pem());
        let (_, other) = self_signed(&["a.example"]);
        let other = other.serialize_pem();
        let of = |host: &str| {
            let (certificate, key) = self_signed(&[host]);
            refusal(&certificate.pem(), &key.serialize_pem())
        };
        let many: Vec<String> = (0..101).map(|n| format!("h{n}.example")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (many, many_key) = self_signed(&many);
        let secret = key.lines().nth(1).unwrap();
        for (text, expected) in [
            (refusal("", &key), "there is no certificate"),
            (refusal("hello", &key), "there is no certificate"),
            (refusal(&key, &key), "there is no certificate"),
            (refusal(&chain, ""), "there is no private key"),
            (refusal(&chain, &chain), "there is no private key"),
            (refusal(&chain, &key.replace(secret, "!!!!")), "there is no private key"),
            (refusal(&chain, &other), "does not belong to the certificate"),
            (refusal(&chain.repeat(11), &key), "at most 10 are allowed"),
            (refusal(&"x".repeat(CHAIN_BYTES + 1), &key), "at most 65536"),
            (refusal(&chain, &"x".repeat(KEY_BYTES + 1)), "at most 16384"),
            (of("127.0.0.1"), "names no host"),
            (of("*.com"), "is not the name of a host"),
            (of("a.*.example"), "is not the name of a host"),
            (of("*a.example"), "is not the name of a host"),
            (of("a_b.example"), "is not the name of a host"),
            (refusal(&many.pem(), &many_key.serialize_pem()), "at most 100"),
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
            assert!(!text.contains(secret), "{text}");
        }
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(refusal(damaged, &key).contains("cannot be read"));
    }

    #[test]
    fn a_certificate_of_the_past_can_be_read_and_its_time_is_over() {
        let key = KeyPair::generate().unwrap();
        let mut past = params(&["a.example"]);
        past.not_before = date_time_ymd(2001, 1, 1);
        past.not_after = date_time_ymd(2002, 1, 1);
        let certificate = past.self_signed(&key).unwrap();
        let read = CheckedCertificate::read(&certificate.pem(), &key.serialize_pem()).unwrap();
        assert_eq!(read.not_after_ms, 1_009_843_200_000);
        assert!(read.check_time(1_764_000_000_000).is_err());
    }
}
