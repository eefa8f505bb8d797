/// Bills.
pub(crate) async fn bill(
    orders: &Batch<OrderCreated>,
    State(ledger): State<Ledger>,
    pool: &Pool,
) -> Result<()> {
    Ok(())
}
#[doc(hidden)]
#[allow(non_upper_case_globals)]
pub(crate) static __abe_handler_bill: ::abe_events::__private::HandlerDescriptor = ::abe_events::__private::HandlerDescriptor {
    spec: ::abe_events::__private::Spec {
        name: "billing",
        name_given: true,
        group: ::core::option::Option::Some("shop"),
        topics: &["order.>"],
        policy: ::abe_events::__private::PolicyPatch {
            batch: ::core::option::Option::Some(50),
            max_wait_ms: ::core::option::Option::Some(5000),
            batch_bytes: ::core::option::Option::Some(1048576),
            concurrency: ::core::option::Option::Some(4),
            timeout_ms: ::core::option::Option::Some(0),
            dead_letter: ::core::option::Option::Some(false),
            when_full: ::core::option::Option::Some(
                ::abe_events::__private::WhenFull::Fail,
            ),
            ordered: ::core::option::Option::Some(true),
            attempts: ::core::option::Option::Some(5),
            backoff: ::core::option::Option::Some(
                ::abe_events::__private::Backoff::Fixed,
            ),
            retry_min_ms: ::core::option::Option::Some(100),
            retry_max_ms: ::core::option::Option::Some(30000),
            jitter: ::core::option::Option::Some(true),
            idempotent: ::core::option::Option::Some(true),
            window_ms: ::core::option::Option::Some(86400000),
            ..::abe_events::__private::PolicyPatch::NONE
        },
        headers: &[
            ::abe_events::__private::HeaderRule::OneOf("tenant", &["a"]),
            ::abe_events::__private::HeaderRule::OneOf("kind", &["x", "y"]),
            ::abe_events::__private::HeaderRule::Present("source"),
            ::abe_events::__private::HeaderRule::Absent("test"),
        ],
        filtered: true,
        takes_batch: ::abe_events::__private::takes_batch::<Batch<OrderCreated>>(true),
        params: &["&Batch<OrderCreated>", "State<Ledger>", "&Pool"],
        doc: "Bills.",
        at: ::abe_events::__private::here!(),
        ..::abe_events::__private::Spec::DEFAULT
    },
    contracts: ::abe_events::__private::contracts::<Batch<OrderCreated>>,
    publishes: || {
        #[allow(unused_imports)]
        use ::abe_events::__private::{ReturnsAnything as _, ReturnsOutcome as _};
        (&::abe_events::__private::Returned::<Batch<OrderCreated>, Result<()>>::new())
            .publishes()
    },
    bind: {
        fn bind(
            __abe_resolver: &mut ::abe_events::__private::Resolver<'_>,
        ) -> ::core::option::Option<::abe_events::__private::BoxWorker> {
            #[allow(unused_imports)]
            use ::abe_events::__private::{LentExtractor as _, LentState as _};
            let __abe_extractor0 = ::abe_events::__private::prepare::<
                State<Ledger>,
            >(__abe_resolver);
            let __abe_extractor1 = (&::abe_events::__private::Lent::<Pool>::new())
                .prepare_lent(__abe_resolver);
            let __abe_extractor0 = __abe_extractor0?;
            let __abe_extractor1 = __abe_extractor1?;
            ::core::option::Option::Some(
                ::abe_events::__private::worker::<Batch<OrderCreated>>()
                    .filter(|order| order.total > 1.0)
                    .filter_meta(recent)
                    .idempotency_key(|order| ::abe_events::__private::key_text(
                        &order.id,
                    ))
                    .run(move |__abe_message, __abe_meta| {
                        let __abe_extractor0 = __abe_extractor0.extract(__abe_meta)?;
                        let __abe_extractor1 = __abe_extractor1.extract(__abe_meta)?;
                        ::core::result::Result::Ok(async move {
                            bill(&__abe_message, __abe_extractor0, &__abe_extractor1)
                                .await
                        })
                    }),
            )
        }
        bind
    },
};
const _: () = ::abe_events::__private::check_batch::<Batch<OrderCreated>>();
const _: () = ::abe_events::__private::check_ordered::<Batch<OrderCreated>>();
const _: () = {
    #[allow(unused_imports)]
    use ::abe_events::__private::NoTransaction as _;
    ::abe_events::__private::check_transaction(
        &[::abe_events::__private::Lent::<State<Ledger>>::TRANSACTION],
        false,
        true,
    );
    ::abe_events::__private::check_transaction(
        &[
            ::abe_events::__private::Lent::<State<Ledger>>::TRANSACTION,
            ::abe_events::__private::Lent::<Pool>::TRANSACTION,
        ],
        true,
        true,
    );
};
::abe_events::__private::register!(handler & __abe_handler_bill);
