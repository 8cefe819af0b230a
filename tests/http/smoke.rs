use crate::support::{Browser, TestStore, app, layer_over};

#[tokio::test]
async fn a_counter_counts_in_process_and_over_http() {
    let app = app(layer_over(TestStore::new()));
    for mut browser in [Browser::new(&app), Browser::over_http(&app).await] {
        for n in 1..4 {
            let answer = browser.post("/count/visits").await.assert_ok();
            assert_eq!(answer.body, n.to_string());
        }
        assert_eq!(browser.stranger().post("/count/visits").await.body, "1");
    }
}
