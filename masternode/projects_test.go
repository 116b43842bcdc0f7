package masternode

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

func TestTokensOpenUntilRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, nil)
		defer r.stop()
		reader, err := r.CreateToken(t.Context(), "p", wire.NewToken{Label: "dash", Rights: []string{wire.RightRead}})
		if err != nil || reader.ID != 2 || reader.Token == "" {
			t.Fatalf("%+v, %v", reader.ProjectToken, err)
		}
		a, err := r.Access(t.Context(), reader.Token, mayAsk)
		if err != nil || a.Project.ID != r.project.ID || !errors.Is(MayAppend(a), wire.ErrForbidden) {
			t.Errorf("%+v, %v", a, err)
		}
		if err := MayAppend(r.access); err != nil {
			t.Error(err)
		}
		if err := r.RevokeToken(t.Context(), "1", reader.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Access(t.Context(), reader.Token, mayAsk); !errors.Is(err, wire.ErrUnauthorized) {
			t.Errorf("revoked: %v", err)
		}
		if err := r.RevokeToken(t.Context(), "p", reader.ID); !errors.Is(err, masterfsm.ErrUnknownToken) {
			t.Errorf("again: %v", err)
		}
		tokens, err := r.Tokens(t.Context(), "p")
		if err != nil || len(tokens.Tokens) != 1 || tokens.Tokens[0].ID != 1 {
			t.Errorf("%+v, %v", tokens, err)
		}
	})
}

func TestQuotaSaysWhenToTryAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, nil)
		defer r.stop()
		rate, size := uint64(4), uint64(10)
		if _, err := r.ChangeProject(t.Context(), "p",
			wire.ProjectChange{Quota: &wire.QuotaChange{RecordsPerSecond: &rate, RecordBytes: &size}}); err != nil {
			t.Fatal(err)
		}
		add := func(n, bytesEach int) error {
			entries := make([]Entry, n)
			for i := range entries {
				entries[i].Payload = bytes.Repeat([]byte("x"), bytesEach)
			}
			_, err := r.Append(t.Context(), r.project, entries, "")
			return err
		}
		for _, err := range []error{add(1, 11), add(5, 1)} {
			if !errors.Is(err, masterfsm.ErrOversize) ||
				!strings.Contains(err.Error(), "10 bytes a record, 4 records a second") {
				t.Errorf("what never fits: %v", err)
			}
		}
		if err := add(4, 10); err != nil {
			t.Fatal(err)
		}
		err := add(2, 1)
		var quota *wire.QuotaError
		if !errors.As(err, &quota) || !errors.Is(err, wire.ErrQuota) || quota.Limit != 4 || quota.Left != 0 ||
			quota.Wait != 500 ||
			!strings.Contains(err.Error(),
				"4 records a second, 0 are left now; nothing was appended, try again in 500 ms") {
			t.Fatalf("refused with %v", err)
		}
		time.Sleep(time.Duration(quota.Wait) * time.Millisecond) // virtual time
		if err := add(2, 1); err != nil {
			t.Errorf("after waiting as told: %v", err)
		}
		p, err := r.Project(t.Context(), "p")
		if err != nil || p.Records != 6 {
			t.Errorf("%+v, %v", p, err)
		}
	})
}

// TestClosedProject checks that a closed project takes no records, whether they come by an append or by a stream, and
// that the change comes alone.
func TestClosedProject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, nil)
		defer r.stop()
		yes, no := true, false
		if _, err := r.ChangeProject(t.Context(), "p", wire.ProjectChange{Public: &yes, Closed: &yes}); !errors.Is(err,
			wire.ErrBadRequest) {
			t.Errorf("two changes at once: %v", err)
		}
		p, err := r.ChangeProject(t.Context(), "p", wire.ProjectChange{Closed: &yes})
		if err != nil || p.Closed == 0 || p.Public {
			t.Fatalf("%+v, %v", p, err)
		}
		entry := Entry{Payload: []byte("x")}
		if _, err := r.Append(t.Context(), r.project, []Entry{entry}, ""); !errors.Is(err, wire.ErrProjectClosed) ||
			!strings.Contains(err.Error(), `"p", at 20`) {
			t.Errorf("an append: %v", err)
		}
		writer := masterfsm.Access{Project: r.project, Rights: masterfsm.MayAppend}
		if at, err := r.stream(t.Context(), writer, "s", 1, entry); !errors.Is(err, wire.ErrProjectClosed) ||
			len(at) != 0 {
			t.Errorf("a stream: %v, %v", at, err)
		}
		if p, err = r.ChangeProject(t.Context(), "p", wire.ProjectChange{Closed: &no}); err != nil || p.Closed != 0 {
			t.Fatalf("%+v, %v", p, err)
		}
		if _, err := r.Append(t.Context(), r.project, []Entry{entry}, ""); err != nil {
			t.Errorf("an append to the project that is open again: %v", err)
		}
	})
}

func TestChangeOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, nil)
		defer r.stop()
		if _, err := r.ChangeProject(t.Context(), "p", wire.ProjectChange{}); !errors.Is(err, wire.ErrBadRequest) {
			t.Error(err)
		}
		public := true
		if _, err := r.ChangeProject(t.Context(), "nobody", wire.ProjectChange{Public: &public}); !errors.Is(err,
			masterfsm.ErrUnknownProject) {
			t.Error(err)
		}
		if _, err := r.CreateToken(t.Context(), "p", wire.NewToken{Rights: []string{"write"}}); !errors.Is(err,
			wire.ErrBadRequest) {
			t.Error(err)
		}
		if _, err := r.CreateToken(t.Context(), "p", wire.NewToken{Label: "\xff"}); !errors.Is(err,
			wire.ErrBadRequest) {
			t.Error(err)
		}
		if _, err := r.CreateProject(t.Context(), wire.NewProject{Name: "\xff"}); !errors.Is(err, wire.ErrBadRequest) {
			t.Error(err)
		}
	})
}

func TestLegacyProject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, nil)
		defer r.stop()
		if _, err := r.Legacy(t.Context()); !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("before it is made: %v", err)
		}
		for range 2 { // another request may be quicker
			if err := r.CreateLegacy(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		p, err := r.Legacy(t.Context())
		if err != nil || !p.Public || len(p.Tokens) != 0 {
			t.Errorf("%+v, %v", p, err)
		}
		if _, err := r.MayRead(t.Context(), r.access, p.ID); err != nil {
			t.Error(err)
		}
		private := false
		if _, err := r.ChangeProject(t.Context(), LegacyProject, wire.ProjectChange{Public: &private}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Legacy(t.Context()); !errors.Is(err, wire.ErrForbidden) {
			t.Errorf("made private: %v", err)
		}
		for _, owner := range []uint32{p.ID, 99} {
			if _, err := r.MayRead(t.Context(), r.access, owner); !errors.Is(err, wire.ErrForbidden) {
				t.Errorf("project %d: %v", owner, err)
			}
		}
	})
}

// TestQuotaIsCheckedBeforeReplication checks that appends over the quota of a project are refused before their payloads
// are committed, and that a retry under a known idempotency key is not.
func TestQuotaIsCheckedBeforeReplication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, nil)
		defer r.stop()
		rate := uint64(1)
		if _, err := r.ChangeProject(t.Context(), "p",
			wire.ProjectChange{Quota: &wire.QuotaChange{RecordsPerSecond: &rate}}); err != nil {
			t.Fatal(err)
		}
		entries := []Entry{{Payload: bytes.Repeat([]byte("x"), 1000)}}
		first, err := r.Append(t.Context(), r.project, entries, "key")
		if err != nil {
			t.Fatal(err)
		}
		r.ledger.Mu.RLock()
		before := r.ledger.Entries
		r.ledger.Mu.RUnlock()
		for range 50 {
			var quota *wire.QuotaError
			_, err := r.Append(t.Context(), r.project, entries, "")
			if !errors.As(err, &quota) || quota.Limit != 1 || quota.Left != 0 || quota.Wait == 0 {
				t.Fatalf("%+v, %v", quota, err)
			}
		}
		r.ledger.Mu.RLock()
		committed := r.ledger.Entries - before
		r.ledger.Mu.RUnlock()
		if committed > 2 {
			t.Errorf("%d of 50 refused appends were committed", committed)
		}
		if again, err := r.Append(t.Context(), r.project, entries, "key"); err != nil || !again.Replay ||
			again.Positions[0] != first.Positions[0] {
			t.Errorf("the retry: %+v, %v", again, err)
		}
		time.Sleep(2 * time.Second) // virtual time
		if _, err := r.Append(t.Context(), r.project, entries, ""); err != nil {
			t.Errorf("after two seconds: %v", err)
		}
	})
}

// TestBacklogIsCheckedBeforeReplication checks that nothing is committed for appends while the backlog is full, and
// that they succeed again after blocks are stored.
func TestBacklogIsCheckedBeforeReplication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, func(c *Config, _ *rig) { c.Settings.MaxPendingBytes = 4000 })
		defer r.stop()
		entries := []Entry{{Payload: bytes.Repeat([]byte("x"), 1000)}}
		first, err := r.Append(t.Context(), r.project, entries, "key")
		for err == nil {
			_, err = r.Append(t.Context(), r.project, entries, "")
		}
		if !errors.Is(err, wire.ErrBacklog) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // virtual time, until only appends can change the table
		r.ledger.Mu.RLock()
		before := r.ledger.Entries
		r.ledger.Mu.RUnlock()
		for range 50 {
			if _, err := r.Append(t.Context(), r.project, entries, ""); !errors.Is(err, wire.ErrBacklog) {
				t.Fatal(err)
			}
		}
		r.ledger.Mu.RLock()
		committed := r.ledger.Entries - before
		r.ledger.Mu.RUnlock()
		if committed > 0 {
			t.Errorf("%d of 50 refused appends were committed", committed)
		}
		if again, err := r.Append(t.Context(), r.project, entries, "key"); err != nil || !again.Replay ||
			again.Positions[0] != first.Positions[0] {
			t.Errorf("the retry: %+v, %v", again, err)
		}
		if _, err := r.ChangeSettings(t.Context(), wire.SettingsChange{Replicas: new(uint8(1))}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Append(t.Context(), r.project, entries, ""); err != nil {
			t.Errorf("after the blocks are stored: %v", err)
		}
	})
}
