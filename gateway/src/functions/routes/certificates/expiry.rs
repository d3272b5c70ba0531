//! When certificates expire: a metric, and warnings in the log.

use std::collections::BTreeSet;

use prometheus::{IntGaugeVec, Opts, Registry};
use store::CertificateRecord;

const DAY_MS: i64 = 24 * 3_600 * 1_000;
/// The log warns of a certificate that expires within so many days: public authorities renew theirs
/// earlier.
const WARN_DAYS: i64 = 14;
/// The label of certificates beyond the number of labels: the one of them that expires first.
/// Certificates with a label of their own. Arbitrary, more than a person looks at.
const LABELS: usize = 50;
const OTHERS: &str = "(others)";

/// Days until certificates expire.
#[derive(Debug)]
pub(crate) struct ExpiryMetrics {
    days: IntGaugeVec,
}

impl ExpiryMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let days = IntGaugeVec::new(
            Opts::new(
                "mayfly_certificate_expiry_days",
                "Whole days until a certificate of an owner expires; negative once it has",
            ),
            &["certificate"],
        )?;
        registry.register(Box::new(days.clone()))?;
        Ok(Self { days })
    }

    /// Shows these certificates and no others. Those that expire first have labels of their own.
    pub(super) fn show<'a>(
        &self,
        certificates: impl Iterator<Item = &'a CertificateRecord>,
        now_ms: i64,
    ) {
        let by_end: BTreeSet<(i64, &str, &str)> = certificates
            .map(|one| (one.not_after_ms, one.tenant.as_str(), one.name.as_str()))
            .collect();
        self.days.reset();
        for (number, (not_after_ms, tenant, name)) in by_end.into_iter().enumerate() {
            let days = days_left(not_after_ms, now_ms);
            if number == LABELS {
                self.days.with_label_values(&[OTHERS]).set(days);
                break;
            }
            let label =
                if tenant == "default" { name.to_owned() } else { format!("{tenant}/{name}") };
            self.days.with_label_values(&[&label]).set(days);
        }
    }
}

/// Warns of a certificate that expires soon, or has expired.
pub(super) fn warn(certificate: &CertificateRecord, now_ms: i64) {
    let CertificateRecord { name, hosts, not_after_ms, .. } = certificate;
    let (days, hosts) = (days_left(*not_after_ms, now_ms), hosts.join(", "));
    if days < 0 {
        tracing::warn!(name, hosts, "a certificate has expired: clients refuse it");
    } else if days < WARN_DAYS {
        tracing::warn!(name, hosts, days, "a certificate expires soon");
    }
}

fn days_left(not_after_ms: i64, now_ms: i64) -> i64 {
    not_after_ms.saturating_sub(now_ms).div_euclid(DAY_MS)
}

#[cfg(test)]
mod tests {
    use store::Tenant;

    use super::*;

    fn certificate(name: &str, not_after_ms: i64) -> CertificateRecord {
        CertificateRecord {
            id: 1,
            tenant: Tenant::default(),
            name: name.to_owned(),
            chain: String::new(),
            hosts: Vec::new(),
            fingerprint: String::new(),
            not_before_ms: 0,
            not_after_ms,
            created_ms: 0,
            updated_ms: 0,
        }
    }

    /// Case K08.
    #[test]
    fn the_certificates_that_expire_first_have_labels_of_their_own() {
        let registry = Registry::new();
        let metrics = ExpiryMetrics::register(&registry).unwrap();
        let mut all = vec![
            certificate("late", 90 * DAY_MS),
            certificate("gone", -1),
            certificate("soon", 5 * DAY_MS + 1),
        ];
        all.extend((3..=LABELS + 1).map(|n| certificate(&n.to_string(), 200 * DAY_MS)));
        metrics.show(all.iter(), 0);
        let shown = || {
            let families = registry.gather();
            let mut shown: Vec<(String, f64)> = families[0]
                .get_metric()
                .iter()
                .map(|one| (one.get_label()[0].value().to_owned(), one.get_gauge().get_value()))
                .collect();
            shown.sort_by(|one, other| one.1.total_cmp(&other.1));
            shown
        };
        let expected = [("gone", -1.0), ("soon", 5.0), ("late", 90.0)];
        assert_eq!(shown()[..3], expected.map(|(name, days)| (name.to_owned(), days)));
        assert_eq!(shown().len(), LABELS + 1);
        assert!(shown().contains(&(OTHERS.to_owned(), 200.0)));
        metrics.show(all[..1].iter(), 0);
        assert_eq!(shown(), [("late".to_owned(), 90.0)]);
    }
}
