//! Topic names and topic filters.
//!
//! Owns their validity and their matching, as both OASIS standards have it (MQTT 3.1.1 and 5, section 4.7). Pure.

/// A filter that is this long counts as two subscriptions, bytes.
const WEIGHT_BYTES: usize = 256;

/// Tells whether a filter may be subscribed to: not empty, `+` alone in its level, `#` alone in the last.
pub fn valid_filter(filter: &str) -> bool {
    if filter.is_empty() || filter.contains('\0') {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let last = levels.peek().is_none();
        match level {
            "+" => {}
            "#" if last => {}
            _ if level.contains(['+', '#']) => return false,
            _ => {}
        }
    }
    true
}

/// Tells whether a valid filter matches a valid topic name. A wildcard in the first level matches no name that
/// begins with `$`.
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = name.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Tells whether there are names that both of two valid filters match.
pub fn overlap(left: &str, right: &str) -> bool {
    let is_wild = |filter: &str| filter.starts_with(['+', '#']);
    if left.starts_with('$') && is_wild(right) || right.starts_with('$') && is_wild(left) {
        return false;
    }
    let (mut left, mut right) = (left.split('/'), right.split('/'));
    loop {
        match (left.next(), right.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(left), Some(right)) if left == right || left == "+" || right == "+" => {}
            _ => return false,
        }
    }
}

/// Returns as how many subscriptions a filter counts where they are limited: more than one where it is very long, so that
/// a limit on their number is one on their bytes.
pub fn weight(filter: &str) -> usize {
    1 + filter.len() / WEIGHT_BYTES
}

/// Tells whether a filter is a shared subscription.
pub fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// Tells whether a topic is the server's to publish on: `$SYS` and all below it.
pub fn is_of_the_server(name: &str) -> bool {
    name.strip_prefix("$SYS").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Takes a shared subscription, `$share/NAME/FILTER`, apart into its name and its filter; `None` where it is malformed.
pub fn shared(filter: &str) -> Option<(&str, &str)> {
    let (name, filter) = filter.strip_prefix("$share/")?.split_once('/')?;
    let is_name = !name.is_empty() && !name.contains(['+', '#']);
    (is_name && valid_filter(filter)).then_some((name, filter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_valid_as_the_standard_says() {
        for filter in ["#", "+", "a", "/", "a/+/b", "+/+", "a/#", "$SYS/#", "/+", "été/+"] {
            assert!(valid_filter(filter), "{filter}");
        }
        for filter in ["", "a#", "a/#/b", "s+", "+s/a", "##", "a/b+/c", "#/", "a\0"] {
            assert!(!valid_filter(filter), "{filter:?}");
        }
    }

    #[test]
    fn shared_subscriptions_have_a_name_and_a_filter() {
        assert_eq!(shared("$share/pool/a/+"), Some(("pool", "a/+")));
        assert_eq!(shared("$share/pool//"), Some(("pool", "/")));
        for wrong in ["$share/pool", "$share/pool/", "$share//a", "$share/p+/a", "$share/#/a", "$share/pool/a#", "a"] {
            assert_eq!(shared(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, name) in [
            ("#", "a/b"),
            ("#", "/"),
            ("a/#", "a"),
            ("a/#", "a/b/c"),
            ("+", "a"),
            ("+/+", "/a"),
            ("/+", "/a"),
            ("a/+/c", "a//c"),
            ("$SYS/#", "$SYS/uptime"),
            ("été/+", "été/x"),
        ] {
            assert!(matches(filter, name), "{filter} {name}");
        }
        for (filter, name) in [
            ("+", "/a"),
            ("+", "a/b"),
            ("a", "a/"),
            ("a/", "a"),
            ("a/+", "a"),
            ("#", "$SYS/uptime"),
            ("+/uptime", "$SYS/uptime"),
            ("a/b", "A/b"),
        ] {
            assert!(!matches(filter, name), "{filter} {name}");
        }
    }

    #[test]
    fn filters_overlap_where_one_name_can_match_both() {
        for (left, right) in [
            ("#", "a/b"),
            ("#", "#"),
            ("a/#", "a"),
            ("a/#", "a/+/c"),
            ("+", "a"),
            ("+/b", "a/+"),
            ("a//c", "a/+/c"),
            ("a/b", "a/b"),
            ("$SYS/#", "$SYS/+"),
            ("a/+/#", "a/b"),
        ] {
            assert!(overlap(left, right) && overlap(right, left), "{left} {right}");
        }
        for (left, right) in [
            ("a", "b"),
            ("a", "a/"),
            ("a/+", "a"),
            ("+", "a/b"),
            ("+/b", "a/c"),
            ("#", "$SYS/uptime"),
            ("+/uptime", "$SYS/uptime"),
            ("a/#", "b/#"),
            ("a/+/#", "a"),
        ] {
            assert!(!overlap(left, right) && !overlap(right, left), "{left} {right}");
        }
    }
}
