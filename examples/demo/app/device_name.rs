//! What people call the browser that sends this `User-Agent`.

/// A guess, for people to recognise a device by; nothing depends on it.
pub(crate) fn device_name(user_agent: &str) -> String {
    let of = |names: &[(&str, &'static str)]| {
        let found = names.iter().find(|(mark, _)| user_agent.contains(mark));
        found.map(|(_, name)| *name)
    };
    match (of(&BROWSERS), of(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(name), None) | (None, Some(name)) => name.to_owned(),
        // Programs name themselves first: `curl/8.5.0`.
        (None, None) => {
            let name = user_agent.split(['/', ' ']).next().unwrap_or_default();
            name.to_owned()
        }
    }
}

/// The first that fits: most browsers also claim to be those further down.
const BROWSERS: [(&str, &str); 5] = [
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
];

const SYSTEMS: [(&str, &str); 6] = [
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
];
