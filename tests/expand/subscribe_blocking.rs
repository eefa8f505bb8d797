fn bill(order: &OrderCreated) {}
#[doc(hidden)]
#[allow(non_upper_case_globals)]
static __abe_handler_bill: ::abe_events::__private::HandlerDescriptor = ::abe_events::__private::HandlerDescriptor {
    spec: ::abe_events::__private::Spec {
        name: ::core::concat!(::core::module_path!(), "::bill"),
        policy: ::abe_events::__private::PolicyPatch {
            idempotent: ::core::option::Option::Some(true),
            ..::abe_events::__private::PolicyPatch::NONE
        },
        takes_batch: ::abe_events::__private::takes_batch::<OrderCreated>(false),
        blocking: true,
        params: &["&OrderCreated"],
        at: ::abe_events::__private::here!(),
        ..::abe_events::__private::Spec::DEFAULT
    },
    contracts: ::abe_events::__private::contracts::<OrderCreated>,
    publishes: || {
        #[allow(unused_imports)]
        use ::abe_events::__private::{ReturnsAnything as _, ReturnsOutcome as _};
        (&::abe_events::__private::Returned::<OrderCreated, ()>::new()).publishes()
    },
    bind: {
        fn bind(
            __abe_resolver: &mut ::abe_events::__private::Resolver<'_>,
        ) -> ::core::option::Option<::abe_events::__private::BoxWorker> {
            #[allow(unused_imports)]
            use ::abe_events::__private::{LentExtractor as _, LentState as _};
            ::core::option::Option::Some(
                ::abe_events::__private::worker::<OrderCreated>()
                    .idempotency_key(|__abe_event| ::abe_events::__private::key_text(
                        &key_of(__abe_event),
                    ))
                    .run(move |__abe_message, __abe_meta| {
                        ::core::result::Result::Ok(
                            ::abe_events::__private::blocking(move || bill(
                                &__abe_message,
                            )),
                        )
                    }),
            )
        }
        bind
    },
};
::abe_events::__private::register!(handler & __abe_handler_bill);
