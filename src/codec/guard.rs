//! What a hostile encoding must not do, whatever type it is decoded into: nest until the stack is used
//! up, or claim elements that the bytes cannot pay for.
//!
//! A frame's bytes bound most of what it decodes into, but not all. `Vec<()>` claims 2^60 elements in
//! ten bytes, and none of them needs a byte more. `Option<Box<..>>` of itself nests a level a byte,
//! which overflows the stack, and that aborts the process. An enum's smallest variant takes a byte on
//! the wire, and in memory the room of its largest, a thousand bytes maybe. The types are the user's, so the deserializer that
//! they are given is wrapped in one that counts.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::budget::{Budget, MAX_DEPTH, Refusal};

/// Decodes a `T` within a budget.
pub(super) struct Guarded<'b, T> {
    budget: &'b Budget,
    value: PhantomData<T>,
}

impl<'b, T> Guarded<'b, T> {
    pub(super) fn by(budget: &'b Budget) -> Self {
        Self { budget, value: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Guarded<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<T, D::Error> {
        T::deserialize(Guard { inner, budget: self.budget, depth: 0, room: size_of::<T>() })
    }
}

/// Something of serde's (a deserializer, a visitor, a seed, an access), `depth` levels below the value.
struct Guard<'b, I> {
    inner: I,
    budget: &'b Budget,
    depth: usize,
    /// The memory that has been paid for what comes next: the room in what it is a part of.
    room: usize,
}

impl<'b, I> Guard<'b, I> {
    #[inline]
    fn same<J>(&self, inner: J) -> Guard<'b, J> {
        Guard { inner, budget: self.budget, depth: self.depth, room: self.room }
    }

    /// The guard of what becomes a `T`. If there is no room for one, it goes into a box of its own.
    #[inline]
    fn part<T, J, E: Error>(&self, inner: J) -> Result<Guard<'b, J>, E> {
        let size = size_of::<T>();
        if size > self.room {
            self.budget.take_memory(1, size)?;
        }
        Ok(Guard { inner, budget: self.budget, depth: self.depth, room: size })
    }

    /// Splits off what is inside, and guards the visitor of a `T` a level further down.
    #[inline]
    fn enter<T, V, E: Error>(self, visitor: V) -> Result<(I, Guard<'b, V>), E> {
        if self.depth == MAX_DEPTH {
            return Err(self.budget.refuse(Refusal::Depth));
        }
        let mut visitor = self.part::<T, V, E>(visitor)?;
        visitor.depth += 1;
        Ok((self.inner, visitor))
    }
}

/// What holds nothing is passed on as it is.
macro_rules! leaves {
    ($($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(visitor)
        }
    )*};
}

/// What holds values is entered; the arguments that come before the visitor are passed on.
macro_rules! nests {
    ($($method:ident($($arg:ident: $type:ty),*))*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, $($arg: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            let (inner, visitor) = self.enter::<V::Value, V, D::Error>(visitor)?;
            inner.$method($($arg,)* visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Guard<'_, D> {
    type Error = D::Error;

    leaves! {
        deserialize_any deserialize_ignored_any deserialize_identifier deserialize_bool
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf deserialize_unit
    }

    nests! {
        deserialize_option()
        deserialize_newtype_struct(name: &'static str)
        deserialize_tuple(len: usize)
        deserialize_tuple_struct(name: &'static str, len: usize)
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.enter::<V::Value, V, D::Error>(visitor)?;
        inner.deserialize_seq(Counting(visitor))
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.enter::<V::Value, V, D::Error>(visitor)?;
        inner.deserialize_map(Counting(visitor))
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Visits what has a fixed number of parts.
impl<'de, V: Visitor<'de>> Visitor<'de> for Guard<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, some: D) -> Result<V::Value, D::Error> {
        let some = self.same(some);
        self.inner.visit_some(some)
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, new: D) -> Result<V::Value, D::Error> {
        let new = self.same(new);
        self.inner.visit_newtype_struct(new)
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        let fields = self.same(fields);
        self.inner.visit_seq(fields)
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        let variant = self.same(variant);
        self.inner.visit_enum(variant)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Guard<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<S::Value, D::Error> {
        let value = self.same(value);
        self.inner.deserialize(value)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Guard<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<S>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error>
    where
        S: DeserializeSeed<'de>,
    {
        let seed = self.part::<S::Value, S, A::Error>(seed)?;
        self.inner.next_element_seed(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, 'b, A: EnumAccess<'de>> EnumAccess<'de> for Guard<'b, A> {
    type Error = A::Error;
    type Variant = Guard<'b, A::Variant>;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        // The tag itself holds nothing.
        let (tag, content) = self.inner.variant_seed(seed)?;
        let Self { budget, depth, room, .. } = self;
        Ok((tag, Guard { inner: content, budget, depth, room }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Guard<'_, A> {
    type Error = A::Error;

    #[inline]
    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.part::<S::Value, S, A::Error>(seed)?;
        self.inner.newtype_variant_seed(seed)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.same(visitor);
        self.inner.tuple_variant(len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.same(visitor);
        self.inner.struct_variant(fields, visitor)
    }
}

/// Visits what has as many elements as the input says, and takes them off the budget before the first.
struct Counting<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Counting<Guard<'_, V>> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.inner.expecting(f)
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        let elements = Elements::of(elements.size_hint(), self.0.same(elements))?;
        self.0.inner.visit_seq(elements)
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        let entries = Elements::of(entries.size_hint(), self.0.same(entries))?;
        self.0.inner.visit_map(entries)
    }
}

/// The elements of a sequence or a map. Their number has been paid for; the memory that they take is
/// known when the first is asked for, since that names the type.
struct Elements<'b, A> {
    access: Guard<'b, A>,
    /// How many are to be paid for yet: keys, and values.
    keys: usize,
    values: usize,
}

impl<'b, A> Elements<'b, A> {
    #[inline]
    fn of<E: Error>(len: Option<usize>, access: Guard<'b, A>) -> Result<Self, E> {
        // bincode always says how many there are; what does not cannot be bounded here.
        access.budget.take_elements(len)?;
        let len = len.unwrap_or_default();
        Ok(Self { access, keys: len, values: len })
    }

    /// The guard of one of so many `T`s, which are paid for with the first.
    #[inline]
    fn one_of<T, S, E: Error>(
        access: &Guard<'b, A>,
        unpaid: &mut usize,
        seed: S,
    ) -> Result<Guard<'b, S>, E> {
        let size = size_of::<T>();
        match std::mem::take(unpaid) {
            0 => {}
            len => access.budget.take_memory(len, size)?,
        }
        Ok(Guard { inner: seed, budget: access.budget, depth: access.depth, room: size })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<S>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error>
    where
        S: DeserializeSeed<'de>,
    {
        let Self { access, values, .. } = self;
        let seed = Self::one_of::<S::Value, S, A::Error>(access, values, seed)?;
        access.inner.next_element_seed(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.access.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error>
    where
        S: DeserializeSeed<'de>,
    {
        let Self { access, keys, .. } = self;
        let seed = Self::one_of::<S::Value, S, A::Error>(access, keys, seed)?;
        access.inner.next_key_seed(seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let Self { access, values, .. } = self;
        let seed = Self::one_of::<S::Value, S, A::Error>(access, values, seed)?;
        access.inner.next_value_seed(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.access.inner.size_hint()
    }
}
