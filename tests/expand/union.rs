pub enum OrderEvent {
    Created(OrderCreated),
    Paid(Arc<OrderPaid>),
}
#[automatically_derived]
impl ::abe_events::Incoming for OrderEvent {
    const KEYED: bool = true
        && <<OrderCreated as ::abe_events::__private::UnionVariant>::Event as ::abe_events::Event>::DESCRIPTOR
            .has_key
        && <<Arc<
            OrderPaid,
        > as ::abe_events::__private::UnionVariant>::Event as ::abe_events::Event>::DESCRIPTOR
            .has_key;
    fn contracts() -> ::std::vec::Vec<&'static ::abe_events::EventDescriptor> {
        ::std::vec![
            << OrderCreated as ::abe_events::__private::UnionVariant > ::Event as
            ::abe_events::Event > ::DESCRIPTOR, << Arc < OrderPaid > as
            ::abe_events::__private::UnionVariant > ::Event as ::abe_events::Event >
            ::DESCRIPTOR
        ]
    }
    fn open(
        __abe_message: &::abe_events::Message,
    ) -> ::core::result::Result<::std::sync::Arc<Self>, ::abe_events::Unreadable> {
        if __abe_message.topic().as_str()
            == <<OrderCreated as ::abe_events::__private::UnionVariant>::Event as ::abe_events::Event>::DESCRIPTOR
                .topic
        {
            let __abe_value = <OrderCreated as ::abe_events::__private::UnionVariant>::open(
                __abe_message,
            )?;
            return ::core::result::Result::Ok(
                ::std::sync::Arc::new(Self::Created { 0: __abe_value }),
            );
        }
        if __abe_message.topic().as_str()
            == <<Arc<
                OrderPaid,
            > as ::abe_events::__private::UnionVariant>::Event as ::abe_events::Event>::DESCRIPTOR
                .topic
        {
            let __abe_value = <Arc<
                OrderPaid,
            > as ::abe_events::__private::UnionVariant>::open(__abe_message)?;
            return ::core::result::Result::Ok(
                ::std::sync::Arc::new(Self::Paid { 0: __abe_value }),
            );
        }
        ::core::result::Result::Err(
            ::abe_events::Unreadable::OtherTopic(__abe_message.topic().clone()),
        )
    }
}
const _: () = ::abe_events::__private::check_union(
    &[
        <<OrderCreated as ::abe_events::__private::UnionVariant>::Event as ::abe_events::Event>::DESCRIPTOR,
        <<Arc<
            OrderPaid,
        > as ::abe_events::__private::UnionVariant>::Event as ::abe_events::Event>::DESCRIPTOR,
    ],
);
