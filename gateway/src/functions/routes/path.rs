//! The paths of routes: `/users/:id`, `/files/*rest`.

use crate::{functions::name::is_name, request::canonical::canonical_path};

/// Bytes of a path. Arbitrary, large enough.
const PATH_BYTES: usize = 1_024;
/// Segments that stand for others. Arbitrary, large enough.
const PARAMETERS: usize = 16;

/// A path of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathPattern {
    segments: Vec<Segment>,
}

/// A part of a path between slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// This text.
    Fixed(String),
    /// Any one segment, by its name.
    One(String),
    /// Any number of segments, by its name. The last.
    Rest(String),
}

impl PathPattern {
    /// Reads a path. An error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('/').ok_or("it begins with `/`")?;
        if text.len() > PATH_BYTES {
            return Err(format!("it has at most {PATH_BYTES} bytes"));
        }
        let mut segments = Vec::new();
        for segment in inner.split('/') {
            if let Some(Segment::Rest(_)) = segments.last() {
                return Err("`*` can only stand in its last segment".to_owned());
            }
            segments.push(match (segment.strip_prefix(':'), segment.strip_prefix('*')) {
                (Some(name), _) => Segment::One(parameter(name)?),
                (_, Some(name)) => Segment::Rest(parameter(name)?),
                _ => Segment::Fixed(segment.to_owned()),
            });
        }
        let pattern = Self { segments };
        let names: Vec<_> = pattern.names().collect();
        if names.len() > PARAMETERS {
            return Err(format!("it has at most {PARAMETERS} segments with `:` or `*`"));
        }
        if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name))
        {
            return Err(format!("the name {:?} stands in it twice", twice.1));
        }
        // Requests come in the canonical form: another one would never match.
        let fixed = pattern.segments.iter().map(|segment| match segment {
            Segment::Fixed(text) => text,
            Segment::One(_) | Segment::Rest(_) => "x",
        });
        let sample = format!("/{}", fixed.collect::<Vec<_>>().join("/"));
        match canonical_path(&sample) {
            Ok(canonical) if canonical == sample && !sample.contains(['?', '#']) => Ok(pattern),
            Ok(canonical) => Err(format!("requests have it as `{canonical}`: write it so")),
            Err(wrong) => Err(wrong.to_owned()),
        }
    }

    /// The names of the segments that stand for others.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Fixed(_) => None,
            Segment::One(name) | Segment::Rest(name) => Some(&**name),
        })
    }

    /// The fixed beginning, without a slash at its end.
    pub(crate) fn fixed_beginning(&self) -> String {
        let mut beginning = String::new();
        for segment in &self.segments {
            match segment {
                Segment::Fixed(text) => beginning.extend(["/", text]),
                Segment::One(_) | Segment::Rest(_) => break,
            }
        }
        beginning.truncate(beginning.trim_end_matches('/').len());
        beginning
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether both match the same paths.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let same = |(one, other): (&Segment, &Segment)| match (one, other) {
            (Segment::Fixed(one), Segment::Fixed(other)) => one == other,
            (Segment::One(_), Segment::One(_)) | (Segment::Rest(_), Segment::Rest(_)) => true,
            _ => false,
        };
        self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(same)
    }

    /// Where what `*` stands for begins in a path that matches; `None` without `*`.
    pub(crate) fn rest_at(&self, path: &str) -> Option<usize> {
        let Some(Segment::Rest(_)) = self.segments.last() else { return None };
        let slash = path.match_indices('/').nth(self.segments.len() - 1);
        Some(slash.map_or(path.len(), |(slash, _)| slash + 1))
    }
}

fn parameter(name: &str) -> Result<String, String> {
    if is_name(name) {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "{name:?} cannot be the name of a segment: that is like the name of a function"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> PathPattern {
        PathPattern::parse(text).unwrap()
    }

    #[test]
    fn a_path_has_fixed_and_named_segments() {
        let path = parse("/users/:id/files/*rest");
        assert_eq!(path.names().collect::<Vec<_>>(), ["id", "rest"]);
        assert_eq!(path.fixed_beginning(), "/users");
        let rest = |text: &'static str| path.rest_at(text).map(|at| &text[at..]);
        assert_eq!(rest("/users/7/files/a/b"), Some("a/b"));
        assert_eq!((rest("/users/7/files/"), rest("/users/7/files")), (Some(""), Some("")));
        assert_eq!(parse("/users/:id").rest_at("/users/7"), None);
        assert_eq!((&*parse("/").fixed_beginning(), &*parse("/a/").fixed_beginning()), ("", "/a"));
    }

    #[test]
    fn the_names_of_segments_do_not_make_another_path() {
        assert!(parse("/users/:id").is_like(&parse("/users/:name")));
        for other in ["/users/id", "/users/*id", "/users/:id/", "/user/:id"] {
            assert!(!parse("/users/:id").is_like(&parse(other)), "{other}");
        }
    }

    #[test]
    fn what_is_no_path_says_why() {
        for (text, why) in [
            ("", "begins with"),
            ("users", "begins with"),
            ("/*rest/more", "last segment"),
            ("/:", "cannot be the name"),
            ("/:ID", "cannot be the name"),
            ("/:a/:a", "twice"),
            ("/a/../b", "write it so"),
            ("/%61", "write it so"),
            ("/a?b", ""),
        ] {
            let error = PathPattern::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(PathPattern::parse(&format!("/{}", "a".repeat(PATH_BYTES))).is_err());
    }
}
