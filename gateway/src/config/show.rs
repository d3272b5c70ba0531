//! The settings in effect as a TOML file, each with its origin.

use std::fmt::Write as _;

use super::layers::{LayeredSettings, Setting};

/// Column of the comments. Few values are long enough to reach it.
const COMMENT_COLUMN: usize = 40;

impl LayeredSettings {
    /// The settings as a file that [`LayeredSettings::read`] accepts.
    pub(crate) fn to_toml(&self) -> String {
        let mut text = String::new();
        // Keys without a section come first: a TOML section extends to the next one.
        for (key, setting) in self.iter().filter(|(key, _)| !key.contains('.')) {
            line(&mut text, key, setting);
        }
        let mut current = "";
        for (section, name, setting) in
            self.iter().filter_map(|(key, s)| key.rsplit_once('.').map(|(k, name)| (k, name, s)))
        {
            if section != current {
                text.push_str("\n[");
                text.push_str(section);
                text.push_str("]\n");
                current = section;
            }
            line(&mut text, name, setting);
        }
        text
    }
}

fn line(text: &mut String, name: &str, setting: &Setting) {
    let pair = format!("{name} = {}", setting.value);
    // A path may contain a line break, which must not end the comment.
    let origin = setting.origin.to_string().replace(char::is_control, " ");
    writeln!(text, "{pair:<COMMENT_COLUMN$} # {origin}").expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Flags};

    fn shown(environment: &[(&str, &str)]) -> String {
        let pairs = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        LayeredSettings::read(None, pairs, &Flags::default()).unwrap().to_toml()
    }

    #[test]
    fn every_setting_is_shown_with_where_it_came_from() {
        let text = shown(&[("MAYFLY_LIMITS_CPU_MS", "7")]);
        assert!(
            text.contains("\ncpu_ms = 7                               # MAYFLY_LIMITS_CPU_MS\n")
        );
        assert!(
            text.starts_with("admin_listen = \"127.0.0.1:9090\"          # default\n"),
            "{text}"
        );
        assert!(text.contains("\n\n[ceilings]\n"));
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        let config: Config = toml::from_str(&shown(&[("MAYFLY_PUBLIC_URL", "http://a")])).unwrap();
        assert_eq!(config, Config { public_url: "http://a".to_owned(), ..Config::default() });
    }
}
