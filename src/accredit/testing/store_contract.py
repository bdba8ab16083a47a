"""The test suite of the store contract (:mod:`accredit.stores.contract`), for any store, yours included.

Make a class of it in a test module of your own and say how a store is made; pytest does the rest::

    from accredit.testing.store_contract import TimedStoreContract

    class TestOurStore(TimedStoreContract):
        def make_store(self, clock):
            return OurStore(connect(), now=clock.now)

:class:`TimedStoreContract` moves the clock of the store by hand. A store whose clock cannot be moved from outside (and
for which :meth:`~TimedStoreContract.pass_time` cannot be overridden) takes :class:`StoreContract`: all the tests in
which no time has to pass. Each test gets a store of its own that must be empty for the identities of that test, which
are drawn at random; they may share one database.

The suite tests behaviour. That each verb is *one* step (one transaction, one script in one round trip) shows in part,
under threads; the rest has to be seen to in the backend.
"""

# ruff: noqa: D102 - the name of a test says what it shows
from __future__ import annotations

import pytest

from accredit.core.identity import Identity
from accredit.core.records import Claimed, Held, Hold, Lead, Satisfied, Wait, is_newer
from accredit.errors import (
    AuthorizationServerError,
    CredentialRefusedError,
    DiscoveryError,
    MalformedResponseError,
    RequestRefusedError,
    ThrottledError,
    UnreachableError,
)
from accredit.stores.contract import Store
from accredit.testing.clock import SteerableClock
from accredit.testing.store_suite import THREADS, StoreSuite, at_once, make_identity, make_record

__all__ = ["StoreContract", "TimedStoreContract", "make_identity", "make_record"]

# Stores may count in whole milliseconds.
_GRAIN = 0.01
_ORIGIN = "https://api.example.com"
_ERRORS: tuple[AuthorizationServerError, ...] = (
    CredentialRefusedError("no", advice="Check.", endpoint="https://as.example/t", status=401, error_code="x"),
    RequestRefusedError("no", status=400, error_code="invalid_scope"),
    ThrottledError("slow", status=429, retry_after=7.5),
    MalformedResponseError("nonsense é", endpoint="https://as.example/t"),
    UnreachableError("gone"),
    DiscoveryError("no document", status=404),
)


class StoreContract(StoreSuite):
    """What every store does, at any one moment. Say in ``make_store`` how yours is made."""

    # -- records -----------------------------------------------------------------------------------

    def test_an_empty_store_has_nothing(self, store: Store, identity: Identity) -> None:
        assert store.read(identity) is None
        assert store.endpoint_hold(f"endpoint {identity.fingerprint.hex()}") is None
        assert isinstance(store.in_process, bool)

    @pytest.mark.parametrize("scope", [None, (), ("orders:read", "orders:write")])
    @pytest.mark.parametrize("refresh_in", [None, 600.0])
    @pytest.mark.parametrize("members", [(), (("instance_url", "https://é.example"), ("id", "x"))])
    def test_a_record_comes_back_as_it_was_published(
        self,
        store: Store,
        identity: Identity,
        scope: tuple[str, ...] | None,
        refresh_in: float | None,
        members: tuple[tuple[str, str], ...],
    ) -> None:
        refresh_token = None if refresh_in is None else "r.e~f+r/s="
        offered = make_record(
            identity,
            "a.b~c+d/e=",
            lifetime=1234.5,
            granted_scope=scope,
            refresh_in=refresh_in,
            members=members,
            refresh_token=refresh_token,
        )
        published = self.publish(store, identity, offered, remaining=1200.25)
        found = store.read(identity)
        assert found is not None
        for stored in (published, found):
            record = stored.record
            assert (record.identity, record.value, record.lifetime) == (identity.encoded, "a.b~c+d/e=", 1234.5)
            assert (record.granted_scope, record.refresh_in, record.members) == (scope, refresh_in, members)
            assert record.refresh_token == refresh_token
            assert 1195 < stored.remaining <= 1200.25
            assert not stored.suspect
        assert published.record.generation == found.record.generation

    def test_records_of_different_identities_never_meet(self, store: Store) -> None:
        name = make_identity().registration
        identities = [
            make_identity(registration_id=name),
            make_identity(registration_id=name, scope="orders:write"),
            make_identity(registration_id=name, principal="alice"),
            make_identity(registration_id=name, principal="alice:{x}"),
            make_identity(registration_id=f"{name}.b"),
        ]
        for number, identity in enumerate(identities):
            assert store.read(identity) is None
            self.publish(store, identity, make_record(identity, f"token-{number}"))
        for number, identity in enumerate(identities):
            found = store.read(identity)
            assert found is not None
            assert (found.record.value, found.record.identity) == (f"token-{number}", identity.encoded)

    def test_removing_forgets_record_suspicion_holds_and_cool_downs(self, store: Store, identity: Identity) -> None:
        generation = self.publish(store, identity).record.generation
        store.suspect(identity, generation=generation, origin="")
        store.fail(identity, owner="a", hold=Hold(60.0, UnreachableError("gone"), 3))
        store.fail(identity, owner="a", hold=Hold(60.0, CredentialRefusedError("no"), 3, "tag"))
        store.cool(identity, origin=_ORIGIN, seconds=60.0)
        store.remove(identity)
        assert store.read(identity) is None
        assert store.suspect(identity, generation=generation, origin=_ORIGIN) == "suspect"
        assert self.claim(store, identity) == Claimed(None, Lead(0))
        store.remove(identity)  # once more, and with nothing there

    def test_removing_leaves_the_lease_that_runs(self, store: Store, identity: Identity) -> None:
        self.claim(store, identity, "a")
        store.remove(identity)
        assert isinstance(self.claim(store, identity, "b").directive, Wait)

    # -- claims ------------------------------------------------------------------------------------

    def test_the_first_claim_leads_and_others_wait(self, store: Store, identity: Identity) -> None:
        first = self.claim(store, identity, "a", lease=30.0)
        assert (first.stored, first.directive) == (None, Lead(0))
        second = self.claim(store, identity, "b")
        assert isinstance(second.directive, Wait)
        assert 25 < second.directive.seconds <= 30.0

    def test_the_holder_of_the_lease_may_claim_again(self, store: Store, identity: Identity) -> None:
        self.claim(store, identity, "a", lease=30.0)
        assert isinstance(self.claim(store, identity, "a", lease=90.0).directive, Lead)
        waiting = self.claim(store, identity, "b").directive
        assert isinstance(waiting, Wait)
        assert 85 < waiting.seconds <= 90.0

    def test_a_record_satisfies_who_wants_any_or_a_newer_one(self, store: Store, identity: Identity) -> None:
        self.claim(store, identity)
        generation = self.publish(store, identity).record.generation
        for newer_than in (None, generation - (1 << 32), generation ^ 1):
            answer = self.claim(store, identity, "b", newer_than=newer_than)
            assert isinstance(answer.directive, Satisfied)
            assert answer.stored is not None
            assert answer.stored.record.generation == generation

    def test_a_record_comes_along_when_it_does_not_satisfy(self, store: Store, identity: Identity) -> None:
        generation = self.publish(store, identity).record.generation
        for newer_than in (generation, generation + (1 << 32)):
            answer = self.claim(store, identity, "b", newer_than=newer_than)
            assert isinstance(answer.directive, Lead)
            assert answer.stored is not None
            assert answer.stored.record.generation == generation

    def test_a_claim_that_is_satisfied_takes_no_lease(self, store: Store, identity: Identity) -> None:
        generation = self.publish(store, identity).record.generation
        self.claim(store, identity, "a")
        assert isinstance(self.claim(store, identity, "b", newer_than=generation).directive, Lead)

    # -- publishing --------------------------------------------------------------------------------

    def test_publishing_ends_the_lease_of_the_owner_only(self, store: Store, identity: Identity) -> None:
        self.claim(store, identity, "a")
        generation = self.publish(store, identity, owner="stale").record.generation
        assert isinstance(self.claim(store, identity, "b", newer_than=generation).directive, Wait)
        later = self.publish(store, identity, owner="a", based_on=generation).record.generation
        assert isinstance(self.claim(store, identity, "b", newer_than=later).directive, Lead)

    def test_generations_count_up_and_keep_their_random_bits(self, store: Store, identity: Identity) -> None:
        first = self.publish(store, identity, make_record(identity, bits=0xFFFFFFFF)).record.generation
        # Where a store begins to count is its own matter.
        assert first >> 32 >= 1
        assert first & 0xFFFFFFFF == 0xFFFFFFFF
        second = self.publish(store, identity, make_record(identity, bits=7), based_on=first).record.generation
        assert second == first - 0xFFFFFFFF + (1 << 32) + 7
        ahead = second - 7 + (1 << 52) + 5
        third = self.publish(store, identity, make_record(identity, bits=0), based_on=ahead).record.generation
        assert third == ahead - 5 + (1 << 32)

    def test_a_newer_record_that_lives_as_long_stays(self, store: Store, identity: Identity) -> None:
        kept = self.publish(store, identity, make_record(identity, "first"), remaining=3600.0)
        answer = self.publish(store, identity, make_record(identity, "late"), owner="b", remaining=1800.0)
        assert (answer.record.value, answer.record.generation) == ("first", kept.record.generation)
        found = store.read(identity)
        assert found is not None
        assert found.record.value == "first"

    def test_a_newer_record_that_ends_sooner_is_replaced(self, store: Store, identity: Identity) -> None:
        kept = self.publish(store, identity, make_record(identity, "first"), remaining=60.0)
        answer = self.publish(store, identity, make_record(identity, "late"), owner="b", remaining=1800.0)
        assert answer.record.value == "late"
        assert answer.record.generation >> 32 == (kept.record.generation >> 32) + 1

    def test_a_record_that_is_not_newer_is_replaced_however_long_it_lives(
        self, store: Store, identity: Identity
    ) -> None:
        kept = self.publish(store, identity, make_record(identity, "long"), remaining=86400.0)
        answer = self.publish(
            store, identity, make_record(identity, "short"), remaining=60.0, based_on=kept.record.generation
        )
        assert answer.record.value == "short"
        assert 55 < answer.remaining <= 60.0

    def test_a_suspect_record_is_replaced_however_long_it_lives(self, store: Store, identity: Identity) -> None:
        kept = self.publish(store, identity, remaining=86400.0)
        store.suspect(identity, generation=kept.record.generation, origin="")
        answer = self.publish(store, identity, make_record(identity, "short"), remaining=60.0)
        assert (answer.record.value, answer.suspect) == ("short", False)

    def test_publishing_may_be_repeated(self, store: Store, identity: Identity) -> None:
        record = make_record(identity)
        self.publish(store, identity, record)
        again = self.publish(store, identity, record)
        found = store.read(identity)
        assert found is not None
        assert (found.record.value, found.record.generation) == (record.value, again.record.generation)

    # -- holds -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("error", _ERRORS, ids=lambda error: type(error).__name__)
    def test_a_hold_comes_back_as_it_was_given(
        self, store: Store, identity: Identity, error: AuthorizationServerError
    ) -> None:
        self.claim(store, identity, "a")
        store.fail(identity, owner="a", hold=Hold(30.0, error, 4))
        answer = self.claim(store, identity, "b").directive
        assert isinstance(answer, Held)
        assert 25 < answer.hold.seconds <= 30.0
        assert (answer.hold.error, answer.hold.failures, answer.hold.credential) == (error, 4, "")
        assert answer.hold.error is not error or store.in_process

    def test_a_hold_of_one_credential_does_not_hold_another(self, store: Store, identity: Identity) -> None:
        store.fail(identity, owner="a", hold=Hold(30.0, CredentialRefusedError("no"), 2, "old"))
        held = self.claim(store, identity, "a", credential="old").directive
        assert isinstance(held, Held)
        assert held.hold.credential == "old"
        assert self.claim(store, identity, "b", credential="new").directive == Lead(0)

    def test_failing_ends_the_lease_of_the_owner_only(self, store: Store, identity: Identity) -> None:
        self.claim(store, identity, "a")
        store.fail(identity, owner="stale", hold=None)
        assert isinstance(self.claim(store, identity, "b").directive, Wait)
        store.fail(identity, owner="a", hold=None)
        assert self.claim(store, identity, "b").directive == Lead(0)

    def test_a_record_comes_before_a_hold_and_a_hold_before_a_lease(self, store: Store, identity: Identity) -> None:
        generation = self.publish(store, identity).record.generation
        self.claim(store, identity, "a", newer_than=generation)
        store.fail(identity, owner="stale", hold=Hold(30.0, UnreachableError("gone"), 1))
        assert isinstance(self.claim(store, identity, "b").directive, Satisfied)
        held = self.claim(store, identity, "b", newer_than=generation)
        assert isinstance(held.directive, Held)
        assert held.stored is not None

    def test_publishing_ends_the_holds_of_all_and_of_its_own_credential(self, store: Store, identity: Identity) -> None:
        for credential in ("", "tag", "old"):
            store.fail(identity, owner="a", hold=Hold(30.0, UnreachableError("gone"), 5, credential))
        generation = self.publish(store, identity, credential="tag").record.generation
        assert self.claim(store, identity, newer_than=generation, credential="tag").directive == Lead(0)
        assert isinstance(self.claim(store, identity, newer_than=generation, credential="old").directive, Held)

    def test_an_endpoint_is_held_for_all_and_the_longer_hold_stays(self, store: Store, identity: Identity) -> None:
        key, other = (f"{name} {identity.fingerprint.hex()}" for name in ("endpoint", "other"))
        error = ThrottledError("slow", status=429, retry_after=60.0)
        store.hold_endpoint(key, Hold(60.0, error, 1))
        store.hold_endpoint(key, Hold(10.0, error, 1))
        held = store.endpoint_hold(key)
        assert held is not None
        assert 55 < held.seconds <= 60.0
        assert held.error == error
        store.hold_endpoint(key, Hold(90.0, error, 2))
        held = store.endpoint_hold(key)
        assert held is not None
        assert 85 < held.seconds <= 90.0
        assert store.endpoint_hold(other) is None

    # -- suspicion ---------------------------------------------------------------------------------

    def test_a_suspect_record_satisfies_nobody_and_is_still_there(self, store: Store, identity: Identity) -> None:
        generation = self.publish(store, identity).record.generation
        for _ in range(2):
            assert store.suspect(identity, generation=generation, origin=_ORIGIN) == "suspect"
        found = store.read(identity)
        assert found is not None
        assert found.suspect
        answer = self.claim(store, identity)
        assert isinstance(answer.directive, Lead)
        assert answer.stored is not None
        assert answer.stored.suspect

    def test_a_late_refusal_of_an_earlier_token_does_nothing(self, store: Store, identity: Identity) -> None:
        first = self.publish(store, identity).record.generation
        self.publish(store, identity, based_on=first)
        assert store.suspect(identity, generation=first, origin=_ORIGIN) == "newer"
        found = store.read(identity)
        assert found is not None
        assert not found.suspect

    def test_what_is_not_there_can_be_suspect(self, store: Store, identity: Identity) -> None:
        assert store.suspect(identity, generation=1 << 32, origin=_ORIGIN) == "suspect"
        assert store.read(identity) is None

    def test_a_new_record_is_not_suspect(self, store: Store, identity: Identity) -> None:
        first = self.publish(store, identity).record.generation
        store.suspect(identity, generation=first, origin=_ORIGIN)
        self.publish(store, identity, based_on=first)
        assert isinstance(self.claim(store, identity, "b").directive, Satisfied)

    def test_a_cool_down_is_of_one_origin(self, store: Store, identity: Identity) -> None:
        generation = self.publish(store, identity).record.generation
        store.cool(identity, origin=_ORIGIN, seconds=60.0)
        assert store.suspect(identity, generation=generation, origin=_ORIGIN) == "cooling"
        found = store.read(identity)
        assert found is not None
        assert not found.suspect
        assert store.suspect(identity, generation=generation, origin="https://other.example.com") == "suspect"

    # -- threads and processes ----------------------------------------------------------------------

    def test_of_many_threads_that_claimat_once_exactly_one_leads(self, store: Store, identity: Identity) -> None:
        answers = at_once(lambda number: self.claim(store, identity, f"owner-{number}").directive)
        assert sum(isinstance(answer, Lead) for answer in answers) == 1
        assert sum(isinstance(answer, Wait) for answer in answers) == THREADS - 1

    def test_of_many_threads_that_publishat_once_all_learn_of_one_record(
        self, store: Store, identity: Identity
    ) -> None:
        records = [make_record(identity, f"token-{number}", bits=number) for number in range(THREADS)]
        answers = at_once(
            lambda number: self.publish(
                store, identity, records[number], owner=f"owner-{number}", remaining=3600.0 - number
            )
        )
        found = store.read(identity)
        assert found is not None
        # The one that lives longest is never replaced once it is in, and nothing else comes after it.
        assert found.record.value == "token-0"
        for number, answer in enumerate(answers):
            assert answer.remaining >= 3590.0 - number
            assert not is_newer(answer.record.generation, found.record.generation) or answer.record.value != "token-0"

    def test_of_many_threads_that_refuse_and_renewat_once_one_leads(self, store: Store, identity: Identity) -> None:
        generation = self.publish(store, identity).record.generation

        def renew(number: int) -> str:
            store.suspect(identity, generation=generation, origin="")
            answer = self.claim(store, identity, f"owner-{number}", newer_than=generation)
            if isinstance(answer.directive, Lead):
                record = make_record(identity, "renewed")
                self.publish(store, identity, record, owner=f"owner-{number}", based_on=generation)
            return type(answer.directive).__name__

        assert at_once(renew).count("Lead") == 1
        found = store.read(identity)
        assert found is not None
        assert (found.record.value, found.suspect) == ("renewed", False)

    def test_a_store_works_on_after_a_fork(self, store: Store, identity: Identity) -> None:
        self.publish(store, identity)
        store.after_fork()
        assert store.read(identity) is not None
        generation = self.publish(store, identity, make_record(identity, "child")).record.generation
        assert self.claim(store, identity, newer_than=generation).directive == Lead(0)


class TimedStoreContract(StoreContract):
    """What ends by itself, too. For stores whose clock a test can move."""

    def pass_time(self, clock: SteerableClock, seconds: float) -> None:
        """Let that many seconds pass by the clock of the store. Override it if the store does not read ``clock``."""
        clock.advance(seconds)

    def test_what_is_left_of_a_record_grows_less_until_it_ends(
        self, store: Store, clock: SteerableClock, identity: Identity
    ) -> None:
        generation = self.publish(store, identity, remaining=60.0).record.generation
        self.pass_time(clock, 40.0)
        found = store.read(identity)
        assert found is not None
        assert 15 < found.remaining <= 20.0 + _GRAIN
        self.pass_time(clock, 21.0)
        assert store.read(identity) is None
        assert self.claim(store, identity, "b") == Claimed(None, Lead(0))
        assert store.suspect(identity, generation=generation - (1 << 32), origin="") == "suspect"

    def test_a_record_that_ended_is_no_reason_not_to_publish(
        self, store: Store, clock: SteerableClock, identity: Identity
    ) -> None:
        first = self.publish(store, identity, make_record(identity, "first"), remaining=60.0).record.generation
        self.pass_time(clock, 61.0)
        answer = self.publish(store, identity, make_record(identity, "second"), remaining=10.0, based_on=first)
        assert answer.record.value == "second"
        assert is_newer(answer.record.generation, first)

    def test_a_lease_ends_by_itself(self, store: Store, clock: SteerableClock, identity: Identity) -> None:
        self.claim(store, identity, "dead", lease=10.0)
        self.pass_time(clock, 4.0)
        waiting = self.claim(store, identity, "b").directive
        assert isinstance(waiting, Wait)
        assert 3 < waiting.seconds <= 6.0 + _GRAIN
        self.pass_time(clock, 7.0)
        assert self.claim(store, identity, "b").directive == Lead(0)

    def test_a_holder_that_claims_again_keeps_its_lease(
        self, store: Store, clock: SteerableClock, identity: Identity
    ) -> None:
        for _ in range(3):
            assert isinstance(self.claim(store, identity, "a", lease=10.0).directive, Lead)
            self.pass_time(clock, 8.0)
            assert isinstance(self.claim(store, identity, "b").directive, Wait)

    def test_the_late_writer_of_a_lease_that_ended_does_not_end_the_next(
        self, store: Store, clock: SteerableClock, identity: Identity
    ) -> None:
        self.claim(store, identity, "late", lease=10.0)
        self.pass_time(clock, 11.0)
        self.claim(store, identity, "b", lease=60.0)
        store.fail(identity, owner="late", hold=None)
        assert isinstance(self.claim(store, identity, "c").directive, Wait)

    def test_a_hold_ends_by_itself_and_its_failures_are_remembered_for_a_while(
        self, store: Store, clock: SteerableClock, identity: Identity
    ) -> None:
        store.fail(identity, owner="a", hold=Hold(10.0, UnreachableError("gone"), 3))
        store.fail(identity, owner="a", hold=Hold(20.0, CredentialRefusedError("no"), 5, "tag"))
        self.pass_time(clock, 11.0)
        held = self.claim(store, identity).directive
        assert isinstance(held, Held)
        assert 5 < held.hold.seconds <= 9.0 + _GRAIN
        self.pass_time(clock, 10.0)
        assert self.claim(store, identity, "a").directive == Lead(5)
        assert self.claim(store, identity, "a", credential="new").directive == Lead(3)
        self.pass_time(clock, 3600.0)
        assert self.claim(store, identity, "b").directive == Lead(0)

    def test_a_cool_down_ends_by_itself(self, store: Store, clock: SteerableClock, identity: Identity) -> None:
        generation = self.publish(store, identity).record.generation
        store.cool(identity, origin=_ORIGIN, seconds=60.0)
        self.pass_time(clock, 59.0)
        assert store.suspect(identity, generation=generation, origin=_ORIGIN) == "cooling"
        self.pass_time(clock, 2.0)
        assert store.suspect(identity, generation=generation, origin=_ORIGIN) == "suspect"

    def test_an_endpoint_is_not_held_for_ever(self, store: Store, clock: SteerableClock, identity: Identity) -> None:
        key = f"endpoint {identity.fingerprint.hex()}"
        store.hold_endpoint(key, Hold(60.0, ThrottledError("slow"), 1))
        self.pass_time(clock, 50.0)
        store.hold_endpoint(key, Hold(5.0, ThrottledError("slow"), 1))
        held = store.endpoint_hold(key)
        assert held is not None
        assert 5 < held.seconds <= 10.0 + _GRAIN
        self.pass_time(clock, 11.0)
        assert store.endpoint_hold(key) is None
