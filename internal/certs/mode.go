package certs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

// ErrNoCertificates: the group requires TLS, and this node has no certificates. It must not serve.
var ErrNoCertificates = errors.New("the group of this node requires TLS, and this node has no certificates: start it " +
	"with --tls-cert, --tls-key and --tls-ca")

// Mode is the step of the move to TLS as a node knows it. Any goroutine may use it. A nil Mode is that of a node whose
// group was never moved.
//
// The file "tls-step" of the data folder has it, so that a node that starts alone refuses plain text too. Big endian:
// magic "CSTL" ‖ version u8 = 1 ‖ epoch u64 ‖ change u64 ‖ step u8 ‖ CRC-32C of everything before it. The steps are
// numbered in their order, from 0 on.
type Mode struct {
	path    string
	secured bool // the node has certificates

	step      atomic.Pointer[wire.TLSStep]
	confirmed atomic.Bool // see [Mode.Confirm]

	mu            sync.Mutex // guards all below
	epoch, change uint64     // of the step: see [Mode.Advance]
	unwritten     bool       // the step is in force, and the file has an earlier one
	changed       []func(wire.TLSStep)
}

var modeFormat = durable.Format{
	Magic: "CSTL", Version: 1, Remedy: "copy the file of another node of this cluster: it is the same at all nodes",
}

// steps are the steps by their numbers in the file.
var steps = [...]wire.TLSStep{wire.TLSByFlags, wire.TLSAccept, wire.TLSPrefer, wire.TLSRequire}

// OpenMode reads the mode of a data folder, which may not exist yet. secured says that the node has certificates. The
// error is [ErrNoCertificates] if it must not start.
func OpenMode(dir string, secured bool) (*Mode, error) {
	m := &Mode{path: filepath.Join(dir, "tls-step"), secured: secured}
	number := uint8(0)
	err := modeFormat.Read(m.path, func(f *durable.Fields) {
		m.epoch, m.change, number = f.Uint64(), f.Uint64(), f.Uint8()
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if int(number) >= len(steps) {
		return nil, fmt.Errorf("%s: %w: step %d", m.path, durable.ErrNewerFormat, number)
	}
	m.step.Store(&steps[number])
	if steps[number] == wire.TLSRequire && !secured {
		return nil, fmt.Errorf("%w (%s)", ErrNoCertificates, m.path)
	}
	return m, nil
}

// Step is the step that the node knows.
func (m *Mode) Step() wire.TLSStep {
	if m == nil {
		return wire.TLSByFlags
	}
	return *m.step.Load()
}

// Confirm says that a leader had the step, or an earlier one, since this start. The file may be out of date: the group
// may have gone on while this node did not run.
func (m *Mode) Confirm() { m.confirmed.Store(true) }

// Confirmed reports whether Confirm was called.
func (m *Mode) Confirmed() bool { return m == nil || m.confirmed.Load() }

// Port is the mode of one port. Mode may be nil.
type Port struct {
	*Mode
	// Plain lets the port take plain text in the steps that allow it. It depends on the address of the port: see
	// --insecure.
	Plain bool
}

// Opening says what a port takes in plain text.
type Opening int

// The openings, from the least one on.
const (
	Closed   Opening = iota // nothing
	ToHealth                // only the routes of the node's health
	ToNodes                 // also the routes between nodes, which need a proof of a secret, and raft
	ToAll
)

// Opening says what the port takes in plain text now. Before a leader has confirmed the step in this start, the file
// may be out of date, and the group may require TLS by now:
//
//   - a node with certificates takes only questions for its health. It calls others over TLS, and so finds the leader
//   - a node without certificates does the same in the step [wire.TLSPrefer], which a group only reaches when all its
//     nodes have certificates
//   - in the step [wire.TLSAccept] a node without certificates takes the calls of nodes: a group that restarts in that
//     step, and of which no node has certificates yet, could not find a leader otherwise
//   - in the step [wire.TLSByFlags] a node without certificates takes all, as in every group in plain text
func (p Port) Opening() Opening {
	if p.Mode == nil {
		return ToAll
	}
	switch step := p.Step(); {
	case step == wire.TLSRequire, p.secured && !(p.Plain && step.Mixed()):
		return Closed
	case step == wire.TLSByFlags || p.Confirmed():
		return ToAll
	case p.secured || step == wire.TLSPrefer:
		return ToHealth
	default:
		return ToNodes
	}
}

// TakesPlain reports whether the port takes connections in plain text now.
func (p Port) TakesPlain() bool { return p.Opening() > Closed }

// OnChange adds a function that is called after each later change of the step.
func (m *Mode) OnChange(do func(wire.TLSStep)) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed = append(m.changed, do)
}

// strictness orders the steps by what a node with certificates does: in a step of a higher one it takes and sends less
// in plain text.
func strictness(s wire.TLSStep) int {
	return slices.Index([]wire.TLSStep{wire.TLSAccept, wire.TLSPrefer, wire.TLSByFlags, wire.TLSRequire}, s)
}

// Advance takes the step that the table of the group has, in an epoch of the group. An older one is ignored. A stricter
// step is in force before it is on the disk, so that a full disk does not keep plain text open. Another one is on the
// disk before it is in force. Advance must be called again after an error that [durable.CanRetry] allows to repeat. The
// error is [ErrNoCertificates] if the node must stop.
func (m *Mode) Advance(epoch uint64, s wire.TLSState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	same := epoch == m.epoch && s.Change == m.change && s.Step == m.Step()
	switch {
	case same && m.unwritten:
	case epoch < m.epoch || epoch == m.epoch && s.Change <= m.change || s == (wire.TLSState{}) && m.Step() == s.Step:
		return nil
	}
	number := slices.Index(steps[:], s.Step)
	if number < 0 {
		return fmt.Errorf("step %q of TLS: %w", s.Step, durable.ErrNewerFormat)
	}
	if strictness(s.Step) > strictness(m.Step()) {
		m.unwritten = true
		m.use(epoch, s.Change, number)
	}
	body := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, epoch), s.Change)
	err := modeFormat.Write(m.path, append(body, byte(number)))
	switch {
	case s.Step == wire.TLSRequire && !m.secured && err != nil:
		// The error of the disk must not have it tried again.
		return fmt.Errorf("%w (and %s)", ErrNoCertificates, err.Error())
	case err != nil:
		return err
	}
	m.unwritten = false
	m.use(epoch, s.Change, number)
	if s.Step == wire.TLSRequire && !m.secured {
		return ErrNoCertificates
	}
	return nil
}

// use brings a step into force. The caller holds mu.
func (m *Mode) use(epoch, change uint64, number int) {
	m.epoch, m.change = epoch, change
	if steps[number] == m.Step() {
		return
	}
	m.step.Store(&steps[number])
	for _, do := range m.changed {
		do(steps[number])
	}
}
