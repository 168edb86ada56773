//! What a tidegate key allows: models and routes, by globs.
use std::sync::Arc;

use crate::identity::Grant;
use crate::units::glob_matches;

impl Grant {
    /// `None`: the call's model is not known. A key that is held to some models then allows
    /// nothing, for the backend may read a model where we did not.
    pub fn allows_model(&self, model: Option<&str>) -> bool {
        self.models.is_empty() || model.is_some_and(|model| any_matches(&self.models, model))
    }

    /// By the route's name.
    pub fn allows_route(&self, route: &str) -> bool {
        self.routes.is_empty() || any_matches(&self.routes, route)
    }
}

fn any_matches(globs: &[Arc<str>], name: &str) -> bool {
    globs.iter().any(|glob| glob_matches(glob, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Name;

    #[test]
    fn a_key_allows_what_its_globs_match() {
        let globs = |all: &[&str]| all.iter().map(|glob| Arc::from(*glob)).collect();
        let id = Name::from("01234567");
        let any = Grant { id: Arc::clone(&id), models: Vec::new(), routes: Vec::new() };
        assert!(any.allows_model(None) && any.allows_model(Some("gpt-5")) && any.allows_route("x"));
        let some = Grant { id, models: globs(&["gpt-*", "o4"]), routes: globs(&["local"]) };
        assert!(some.allows_model(Some("gpt-5")) && some.allows_model(Some("o4")));
        assert!(!some.allows_model(Some("o4-mini")) && !some.allows_model(None));
        assert!(some.allows_route("local") && !some.allows_route("locals"));
    }
}
