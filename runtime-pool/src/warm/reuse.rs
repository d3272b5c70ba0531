//! An instance that has served its call, and may serve another when the response has ended well.

use crate::host::instance::Instance;

/// An instance whose guest has ended without a failure. Dropped, unless the warm set keeps it.
///
/// Boxed: most functions reuse nothing, and their calls carry this around, too.
pub(crate) struct Reusable(pub(super) Box<Instance>);
