use lambda_extension::{
    service_fn, Error, Extension, LambdaEvent, LambdaLog, LambdaLogRecord, LambdaTelemetry, LambdaTelemetryRecord,
    NextEvent, SharedService,
};

async fn told(event: LambdaEvent) -> Result<(), Error> {
    match event.next {
        NextEvent::Invoke(invoke) => println!("told {invoke:?}"),
        NextEvent::Shutdown(shutdown) => println!("told {shutdown:?}"),
    }
    Ok(())
}

async fn telemetry(events: Vec<LambdaTelemetry>) -> Result<(), Error> {
    for event in events {
        let record: LambdaTelemetryRecord = event.record;
        println!("got {record:?}");
    }
    Ok(())
}

async fn logs(events: Vec<LambdaLog>) -> Result<(), Error> {
    for event in events {
        let record: LambdaLogRecord = event.record;
        println!("got {record:?}");
    }
    Ok(())
}

/// What it subscribes to is in the function's variable `DOES`.
#[tokio::main]
async fn main() -> Result<(), Error> {
    let extension = Extension::new().with_events_processor(service_fn(told));
    let types = &["platform", "function"];
    if std::env::var("DOES")? == "telemetry" {
        let processor = SharedService::new(service_fn(telemetry));
        extension.with_telemetry_types(types).with_telemetry_processor(processor).run().await
    } else {
        let processor = SharedService::new(service_fn(logs));
        extension.with_log_types(types).with_logs_processor(processor).run().await
    }
}
