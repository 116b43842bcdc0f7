package certs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

func openMode(t *testing.T, dir string, secured bool) *Mode {
	t.Helper()
	m, err := OpenMode(dir, secured)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestMode takes steps in order and out of order. A newer one is on the disk when it is in force.
func TestMode(t *testing.T) {
	dir := t.TempDir()
	m := openMode(t, dir, true)
	var seen []wire.TLSStep
	m.OnChange(func(s wire.TLSStep) { seen = append(seen, s) })
	for _, row := range []struct {
		epoch, change uint64
		step, want    wire.TLSStep
	}{
		{1, 0, wire.TLSByFlags, wire.TLSByFlags},
		{1, 1, wire.TLSAccept, wire.TLSAccept},
		{1, 2, wire.TLSPrefer, wire.TLSPrefer},
		{1, 1, wire.TLSAccept, wire.TLSPrefer}, // an old answer
		{1, 2, wire.TLSAccept, wire.TLSPrefer}, // another one of the same change
		{0, 9, wire.TLSAccept, wire.TLSPrefer}, // of an earlier epoch
		{1, 3, wire.TLSAccept, wire.TLSAccept}, // back
		{1, 5, wire.TLSRequire, wire.TLSRequire},
		{1, 0, wire.TLSByFlags, wire.TLSRequire}, // a table that is not current yet
		{2, 0, wire.TLSByFlags, wire.TLSByFlags}, // a group that was recovered from storage nodes
		{2, 1, wire.TLSRequire, wire.TLSRequire},
	} {
		if err := m.Advance(row.epoch, wire.TLSState{Step: row.step, Change: row.change}); err != nil {
			t.Fatalf("%+v: %v", row, err)
		}
		if m.Step() != row.want || openMode(t, dir, true).Step() != row.want {
			t.Errorf("%+v: %q, and after a start %q", row, m.Step(), openMode(t, dir, true).Step())
		}
		if mixed := row.want == wire.TLSAccept || row.want == wire.TLSPrefer; (Port{m, true}).TakesPlain() != mixed {
			t.Errorf("%+v: it takes plain text: %v", row, !mixed)
		}
	}
	if want := []wire.TLSStep{"accept", "prefer", "accept", "require", "", "require"}; !slices.Equal(seen, want) {
		t.Errorf("changes: %q", seen)
	}
	if err := m.Advance(2, wire.TLSState{Step: "more", Change: 9}); !errors.Is(err, durable.ErrNewerFormat) {
		t.Errorf("a step of a newer version: %v", err)
	}
}

// TestPorts checks that the operator's flags keep a port from plain text at every step, and only that port.
func TestPorts(t *testing.T) {
	m := openMode(t, t.TempDir(), true)
	if err := m.Advance(1, wire.TLSState{Step: wire.TLSAccept, Change: 1}); err != nil {
		t.Fatal(err)
	}
	if (Port{m, false}).TakesPlain() || !(Port{m, true}).TakesPlain() {
		t.Error("a port does not follow its flags")
	}
	if none := (Port{nil, true}); none.Step() != wire.TLSByFlags || none.Opening() != ToAll || !none.Confirmed() {
		t.Error("a node without a mode does not take all")
	}
}

// TestOpening checks what a port takes in plain text at each step, before and after a leader has confirmed it.
func TestOpening(t *testing.T) {
	for _, row := range []struct {
		step                wire.TLSStep
		secured, plain      bool
		unconfirmed, become Opening
	}{
		{wire.TLSByFlags, false, true, ToAll, ToAll},
		{wire.TLSAccept, false, true, ToNodes, ToAll},
		{wire.TLSPrefer, false, true, ToHealth, ToAll},
		{wire.TLSByFlags, true, true, Closed, Closed},
		{wire.TLSAccept, true, true, ToHealth, ToAll},
		{wire.TLSPrefer, true, true, ToHealth, ToAll},
		{wire.TLSRequire, true, true, Closed, Closed},
		{wire.TLSAccept, true, false, Closed, Closed},
		{wire.TLSPrefer, true, false, Closed, Closed},
	} {
		m := openMode(t, t.TempDir(), row.secured)
		if err := m.Advance(1, wire.TLSState{Step: row.step, Change: 1}); err != nil {
			t.Fatal(err)
		}
		p := Port{m, row.plain}
		if got := p.Opening(); got != row.unconfirmed || p.Confirmed() {
			t.Errorf("%+v: %d before a leader has confirmed the step", row, got)
		}
		m.Confirm()
		if got := p.Opening(); got != row.become || !p.Confirmed() {
			t.Errorf("%+v: %d afterwards", row, got)
		}
	}
}

// TestModeWithoutCertificates checks that a node without certificates ends when the group requires them, does not start
// then, and does not take a damaged file for none.
func TestModeWithoutCertificates(t *testing.T) {
	dir := t.TempDir()
	m := openMode(t, dir, false)
	if err := m.Advance(1, wire.TLSState{Step: wire.TLSPrefer, Change: 2}); err != nil {
		t.Error(err)
	}
	if err := m.Advance(1, wire.TLSState{Step: wire.TLSRequire, Change: 3}); !errors.Is(err, ErrNoCertificates) {
		t.Errorf("require: %v", err)
	}
	if _, err := OpenMode(dir, false); !errors.Is(err, ErrNoCertificates) {
		t.Errorf("a start: %v", err)
	}
	openMode(t, dir, true)
	path := filepath.Join(dir, "tls-step")
	data, err := os.ReadFile(path)
	if err == nil {
		data[len(data)-5] = 0
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	// Without the file the node would take plain text again, so the error must not advise to remove it.
	if _, err := OpenMode(dir, false); !errors.Is(err, durable.ErrDamaged) ||
		!strings.Contains(err.Error(), "copy the file of another node") || strings.Contains(err.Error(), "remove") {
		t.Errorf("a damaged file: %v", err)
	}
}

// TestModeOnFullDisk checks that a stricter step is in force although its file cannot be written, that the file is
// written by a later attempt, and that a less strict step waits for its file.
func TestModeOnFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	makeDir := func() {
		t.Helper()
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	makeDir()
	m := openMode(t, dir, true)
	advance := func(change uint64, step wire.TLSStep) error {
		return m.Advance(1, wire.TLSState{Step: step, Change: change})
	}
	if err := advance(1, wire.TLSAccept); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := advance(3, wire.TLSRequire)
		if err == nil || m.Step() != wire.TLSRequire || (Port{m, true}).TakesPlain() {
			t.Errorf("require without a disk: %v, and the step is %q", err, m.Step())
		}
	}
	if err := advance(2, wire.TLSPrefer); err != nil || m.Step() != wire.TLSRequire {
		t.Errorf("an old answer: %v, and the step is %q", err, m.Step())
	}
	makeDir()
	if err := advance(3, wire.TLSRequire); err != nil || openMode(t, dir, true).Step() != wire.TLSRequire {
		t.Errorf("the next attempt: %v, and after a start %q", err, openMode(t, dir, true).Step())
	}

	m = openMode(t, dir, true)
	if err := m.Advance(2, wire.TLSState{Step: wire.TLSPrefer, Change: 4}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := m.Advance(2, wire.TLSState{Step: wire.TLSAccept, Change: 5}); err == nil || m.Step() != wire.TLSPrefer {
		t.Errorf("back without a disk: %v, and the step is %q", err, m.Step())
	}

	m = openMode(t, dir, false)
	err := m.Advance(1, wire.TLSState{Step: wire.TLSRequire, Change: 1})
	if !errors.Is(err, ErrNoCertificates) || errors.Is(err, os.ErrNotExist) {
		t.Errorf("require without a disk and without certificates: %v", err)
	}
}
