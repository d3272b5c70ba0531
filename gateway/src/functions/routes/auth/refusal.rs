//! What a route says of a request that names its caller: that it is not let through, or what it signs.

/// The SHA-256 of the body of a signed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SignedBody(pub(crate) [u8; 32]);

/// Why a caller is not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuthRefusal {
    /// It has sent nothing that the route asks for.
    Nothing,
    /// What it has sent is not right.
    Wrong(&'static str),
    /// Its token is not right.
    Token(TokenFault),
    /// Its token is right, and does not allow this. With what is missing.
    NotAllowed(String),
    /// The keys of the issuer are not known at the moment.
    KeysUnavailable,
    /// Too much is being checked, or remembered, at the moment.
    Busy(&'static str),
}

/// Why a token is not right. Callers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenFault(pub(crate) &'static str);
