//! Names that thousands of objects say, those of nodes and zones: those who say the same one share its text.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The names that somebody said lately.
#[derive(Default)]
struct Names {
    known: BTreeSet<Arc<str>>,
    /// How many there were when those that nobody keeps were last forgotten.
    kept: usize,
}

/// Below this, forgetting is not worth a look.
const FEW: usize = 1000;

thread_local! {
    // Whoever reads objects does so on one thread.
    static NAMES: RefCell<Names> = RefCell::default();
}

/// The text of a name, shared with those who said it before.
pub(crate) fn shared(name: &str) -> Arc<str> {
    NAMES.with_borrow_mut(|names| names.shared(name))
}

impl Names {
    fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        if self.known.len() > FEW.max(self.kept * 2) {
            self.known.retain(|name| Arc::strong_count(name) > 1);
            self.kept = self.known.len();
        }
        let name: Arc<str> = name.into();
        self.known.insert(Arc::clone(&name));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_has_one_text_and_is_forgotten_when_nobody_keeps_it() {
        let mut names = Names::default();
        let kept = names.shared("node-1");
        assert!(Arc::ptr_eq(&kept, &names.shared("node-1")));
        for number in 0..10_000 {
            names.shared(&format!("gone-{number}"));
        }
        assert!(names.known.len() <= FEW + 1, "{}", names.known.len());
        assert!(Arc::ptr_eq(&kept, &names.shared("node-1")));
    }
}
