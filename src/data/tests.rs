use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1000;

fn json(text: &str) -> Payload {
    text.as_bytes().into()
}

fn data(entries: &[(&str, &str)]) -> Data {
    let mut data = Data::new(Table::empty(), LIMIT);
    for (key, value) in entries {
        data.set(key, Some(json(value)), Replay::Value).unwrap();
    }
    stored(&data)
}

/// The data as the next request finds it.
fn stored(data: &Data) -> Data {
    Data::new(Table::parse(data.encode().unwrap()).unwrap(), data.limit)
}

fn texts(data: &Data) -> BTreeMap<String, String> {
    data.iter()
        .map(|(key, value)| (key.into(), String::from_utf8(value.into()).unwrap()))
        .collect()
}

fn append(text: &'static str) -> Replay {
    let update: UpdateFn = Arc::new(move |old| {
        let mut new = old.map_or(Vec::new(), |old| old.as_bytes().to_vec());
        new.extend_from_slice(text.as_bytes());
        Ok(new.into())
    });
    Replay::Updates(update, Vec::new())
}

#[test]
fn the_same_value_again_is_no_change() {
    let mut data = data(&[("a", "1")]);
    data.set("a", Some(json("1")), Replay::Value).unwrap();
    data.set("b", None, Replay::Value).unwrap();
    assert!(!data.is_changed());
}

#[test]
fn a_change_that_is_taken_back_is_no_change() {
    let mut data = data(&[("a", "1")]);
    data.set("a", Some(json("2")), Replay::Value).unwrap();
    data.set("b", Some(json("3")), Replay::Value).unwrap();
    assert!(data.is_changed());
    data.set("a", Some(json("1")), Replay::Value).unwrap();
    data.set("b", None, Replay::Value).unwrap();
    assert!(!data.is_changed());
}

#[test]
fn clearing_what_is_empty_is_no_change() {
    let mut data = Data::new(Table::empty(), LIMIT);
    data.clear();
    assert!(!data.is_changed());
}

#[test]
fn clear_forgets_the_expiry_rule_too() {
    let mut data = data(&[]);
    data.set_rule(Some(Expiry::BrowserClose));
    let mut data = stored(&data);
    assert_eq!(data.rule(), Some(Expiry::BrowserClose));
    data.clear();
    assert_eq!(data.rule(), None);
    assert!(data.is_changed());
}

#[test]
fn what_would_outgrow_the_limit_is_refused_and_nothing_changes() {
    let mut data = data(&[("a", "1")]);
    let before = texts(&data);
    let long = json(&"9".repeat(LIMIT));
    let error = data.set("b", Some(long), Replay::Value).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(texts(&data), before);
    assert!(!data.is_changed());
}

#[test]
fn a_session_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() {
    let room = LIMIT - Table::HEADER_LEN - Table::ENTRY_LEN - "k".len();
    let mut data = Data::new(Table::empty(), LIMIT);
    let over = json(&"9".repeat(room + 1));
    assert!(data.set("k", Some(over), Replay::Value).is_err());
    let full = json(&"9".repeat(room));
    data.set("k", Some(full), Replay::Value).unwrap();
    assert_eq!(data.encode().unwrap().len(), LIMIT);
}

#[test]
fn what_is_over_a_lowered_limit_can_still_shrink() {
    let full = data(&[("a", &"1".repeat(400)), ("b", &"2".repeat(400))]);
    let mut data = Data::new(full.base, 100);
    data.set("a", None, Replay::Value).unwrap();
    data.set("b", Some(json("3")), Replay::Value).unwrap();
    assert_eq!(texts(&data), BTreeMap::from([("b".into(), "3".into())]));
}

#[test]
fn replay_keeps_the_keys_of_others_and_runs_updates_on_their_values() {
    let mut ours = data(&[("counter", "1"), ("gone", "x"), ("theirs", "old")]);
    ours.set("counter", Some(json("12")), append("2")).unwrap();
    ours.set("gone", None, Replay::Value).unwrap();
    ours.set("ours", Some(json("new")), Replay::Value).unwrap();
    let theirs = data(&[("counter", "5"), ("gone", "y"), ("theirs", "new")]);
    let merged = ours.replayed_over(theirs.base).unwrap();
    let expected = [("counter", "52"), ("ours", "new"), ("theirs", "new")];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(texts(&merged), BTreeMap::from(expected));
}

#[test]
fn replay_after_clear_forgets_what_others_wrote() {
    let mut ours = data(&[("a", "1")]);
    ours.clear();
    ours.set("b", Some(json("2")), Replay::Value).unwrap();
    let theirs = data(&[("a", "3"), ("c", "4")]);
    let merged = ours.replayed_over(theirs.base).unwrap();
    assert_eq!(texts(&merged), BTreeMap::from([("b".into(), "2".into())]));
}

#[test]
fn an_update_of_a_value_that_was_put_is_replayed_as_the_value_that_came_out() {
    let mut ours = data(&[]);
    ours.set("a", Some(json("1")), Replay::Value).unwrap();
    ours.set("a", Some(json("12")), append("2")).unwrap();
    let merged = ours.replayed_over(data(&[("a", "9")]).base).unwrap();
    assert_eq!(texts(&merged), BTreeMap::from([("a".into(), "12".into())]));
}

#[test]
fn what_was_put_in_vain_is_what_the_next_update_begins_from() {
    let mut ours = data(&[("a", "0")]);
    ours.set("a", Some(json("0")), Replay::Value).unwrap();
    ours.set("a", Some(json("01")), append("1")).unwrap();
    let merged = ours.replayed_over(data(&[("a", "7")]).base).unwrap();
    assert_eq!(texts(&merged), BTreeMap::from([("a".into(), "01".into())]));

    let mut ours = data(&[]);
    ours.set("a", None, Replay::Value).unwrap();
    ours.set("a", Some(json("1")), append("1")).unwrap();
    let merged = ours.replayed_over(data(&[("a", "7")]).base).unwrap();
    assert_eq!(texts(&merged), BTreeMap::from([("a".into(), "1".into())]));
}

#[test]
fn an_update_that_changes_nothing_runs_again_before_the_next_one() {
    let at_least_one: UpdateFn = Arc::new(|old| {
        let is_more = old.is_some_and(|old| old.as_bytes() > b"1".as_slice());
        Ok(old
            .filter(|_| is_more)
            .cloned()
            .unwrap_or_else(|| json("1")))
    });
    let mut ours = data(&[("a", "3")]);
    let replay = Replay::Updates(at_least_one, Vec::new());
    ours.set("a", Some(json("3")), replay).unwrap();
    assert!(!ours.is_changed());
    ours.set("a", Some(json("31")), append("1")).unwrap();
    let merged = ours.replayed_over(data(&[("a", "0")]).base).unwrap();
    assert_eq!(texts(&merged), BTreeMap::from([("a".into(), "11".into())]));
}

#[test]
fn what_comes_out_as_it_was_is_no_change_and_leaves_what_others_wrote() {
    let mut ours = data(&[("a", "1"), ("b", "2")]);
    ours.set("a", Some(json("11")), append("1")).unwrap();
    ours.set("a", Some(json("1")), Replay::Value).unwrap();
    ours.set("c", None, Replay::Value).unwrap();
    assert!(!ours.is_changed() && !ours.is_empty());
    ours.set("b", Some(json("3")), Replay::Value).unwrap();
    let merged = ours.replayed_over(data(&[("a", "5"), ("c", "6")]).base);
    let expected = [("a", "5"), ("b", "3"), ("c", "6")];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(texts(&merged.unwrap()), BTreeMap::from(expected));
}

#[test]
fn changes_in_vain_take_no_more_room_than_a_session() {
    let mut ours = data(&[("a", "1")]);
    for number in 0..10 * LIMIT {
        ours.set(&format!("absent {number}"), None, Replay::Value)
            .unwrap();
    }
    for number in 0..10 * LIMIT {
        let key = format!("there and gone {number}");
        ours.set(&key, Some(json("1")), Replay::Value).unwrap();
        ours.set(&key, None, Replay::Value).unwrap();
        ours.set("a", Some(json("1")), append("")).unwrap();
    }
    assert!(ours.changes.len() * Table::ENTRY_LEN < LIMIT);
    assert!(ours.forget_replays().len() <= 1);
    assert!(!ours.is_changed() && !ours.is_empty());
    ours.set("a", Some(json("2")), Replay::Value).unwrap();
    assert_eq!(texts(&ours), BTreeMap::from([("a".into(), "2".into())]));
}

#[test]
fn the_same_value_however_often_is_what_the_next_update_begins_from() {
    let mut ours = data(&[("a", "0")]);
    for _ in 0..10 * LIMIT {
        ours.set("a", Some(json("0")), Replay::Value).unwrap();
    }
    ours.set("a", Some(json("01")), append("1")).unwrap();
    let merged = ours.replayed_over(data(&[("a", "7")]).base).unwrap();
    assert_eq!(texts(&merged), BTreeMap::from([("a".into(), "01".into())]));
}

#[test]
fn values_stay_when_it_is_forgotten_how_they_came_about() {
    let mut ours = data(&[("a", "1"), ("b", "2")]);
    ours.set("b", Some(json("3")), Replay::Value).unwrap();
    assert!(ours.forget_replays().is_empty());
    ours.set("a", Some(json("11")), append("1")).unwrap();
    assert_eq!(ours.forget_replays().len(), 1);
    assert!(ours.forget_replays().is_empty() && ours.is_changed());
    let merged = ours.replayed_over(data(&[("a", "5")]).base).unwrap();
    let expected = [("a", "11"), ("b", "3")];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(texts(&merged), BTreeMap::from(expected));
}

#[test]
fn a_replay_that_outgrows_the_limit_is_an_error() {
    let mut ours = data(&[]);
    let half = json(&"1".repeat(LIMIT * 2 / 3));
    ours.set("ours", Some(half), Replay::Value).unwrap();
    let theirs = data(&[("theirs", &"2".repeat(LIMIT * 2 / 3))]);
    let error = ours.replayed_over(theirs.base).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[test]
fn a_replay_that_fits_in_the_end_is_done_whatever_the_order_of_the_keys() {
    let large = json(&"1".repeat(LIMIT * 2 / 3));
    let mut ours = data(&[("z", &"2".repeat(LIMIT * 2 / 3))]);
    ours.set("z", None, Replay::Value).unwrap();
    ours.set("a", Some(large), Replay::Value).unwrap();
    let theirs = data(&[("b", "3"), ("z", &"2".repeat(LIMIT * 2 / 3))]);
    let merged = ours.replayed_over(theirs.base).unwrap();
    assert_eq!(texts(&merged).into_keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn clearing_what_is_empty_is_replayed_over_what_others_wrote() {
    let mut ours = Data::new(Table::empty(), LIMIT);
    ours.clear();
    let merged = ours.replayed_over(data(&[("theirs", "1")]).base).unwrap();
    assert!(merged.is_empty() && merged.is_changed());
}

/// One step of a script that is played on `Data` and on a plain map.
#[derive(Clone, Debug)]
enum Step {
    Set(String, Option<String>),
    Append(String, &'static str),
    Clear,
    Rule(Option<u64>),
    Store,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || "[a-d]";
    let step = prop_oneof![
        4 => (key(), prop::option::of("[0-9]{1,3}")).prop_map(|(key, value)| Step::Set(key, value)),
        2 => (key(), prop_oneof![Just("1"), Just("2")]).prop_map(|(key, text)| Step::Append(key, text)),
        1 => Just(Step::Clear),
        1 => prop::option::of(1_u64..5).prop_map(Step::Rule),
        1 => Just(Step::Store),
    ];
    prop::collection::vec(step, 0..30)
}

proptest! {
    #[test]
    fn data_behaves_as_a_map_does(steps in steps()) {
        let mut data = Data::new(Table::empty(), LIMIT);
        let mut model = BTreeMap::<String, String>::new();
        let mut rule = None;
        for step in steps {
            match step {
                Step::Set(key, value) => {
                    data.set(&key, value.as_deref().map(json), Replay::Value).unwrap();
                    match value {
                        Some(value) => { model.insert(key, value); }
                        None => { model.remove(&key); }
                    }
                }
                Step::Append(key, text) => {
                    let new = format!("{}{text}", model.get(&key).map_or("", String::as_str));
                    data.set(&key, Some(json(&new)), append(text)).unwrap();
                    model.insert(key, new);
                }
                Step::Clear => {
                    data.clear();
                    model.clear();
                    rule = None;
                }
                Step::Rule(secs) => {
                    rule = secs.map(|secs| Expiry::Idle(Duration::from_secs(secs)));
                    data.set_rule(rule);
                }
                Step::Store => {
                    let before = data.base.payload().clone();
                    if !data.is_changed() && !before.is_empty() {
                        prop_assert_eq!(data.encode().unwrap(), before);
                    }
                    data = stored(&data);
                }
            }
            prop_assert_eq!(texts(&data), model.clone());
            prop_assert_eq!(data.rule(), rule);
            prop_assert_eq!(data.is_empty(), model.is_empty());
            prop_assert_eq!(data.encode().unwrap().len(), data.encoded_len);
            let same_base = Table::parse(data.base.payload().clone()).unwrap_or_else(|_| Table::empty());
            prop_assert_eq!(texts(&data.replayed_over(same_base).unwrap()), model.clone());
        }
    }

    /// As if the whole request had come after the other writer, but for keys that it has left as they were.
    #[test]
    fn changes_are_made_again_in_their_order(base in entries(), newer in entries(), steps in steps()) {
        let table = |entries: &BTreeMap<String, String>| {
            let mut data = Data::new(Table::empty(), LIMIT);
            for (key, value) in entries {
                data.set(key, Some(json(value)), Replay::Value).unwrap();
            }
            stored(&data)
        };
        let mut ours = table(&base);
        let mut before = base.clone();
        let mut after = newer.clone();
        let mut is_cleared = false;
        for step in steps {
            match step {
                Step::Set(key, value) => {
                    ours.set(&key, value.as_deref().map(json), Replay::Value).unwrap();
                    for model in [&mut before, &mut after] {
                        match &value {
                            Some(value) => model.insert(key.clone(), value.clone()),
                            None => model.remove(&key),
                        };
                    }
                }
                Step::Append(key, text) => {
                    for model in [&mut before, &mut after] {
                        model.entry(key.clone()).or_default().push_str(text);
                    }
                    ours.set(&key, Some(json(&before[&key])), append(text)).unwrap();
                }
                Step::Clear => {
                    ours.clear();
                    before.clear();
                    after.clear();
                    is_cleared = true;
                }
                Step::Rule(_) | Step::Store => {}
            }
        }
        let merged = texts(&ours.replayed_over(table(&newer).base).unwrap());
        for key in ["a", "b", "c", "d"] {
            let is_left = !is_cleared && before.get(key) == base.get(key);
            let expected = if is_left { newer.get(key) } else { after.get(key) };
            prop_assert_eq!(merged.get(key), expected, "{}", key);
        }
    }
}

fn entries() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[a-d]", "[0-2]{0,2}", 0..4)
}
