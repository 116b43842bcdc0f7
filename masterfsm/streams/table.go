package streams

import (
	"container/list"
	"fmt"
	"slices"
)

// The bounds of a [Table].
const (
	// Window is how many records of a stream, the newest, have their positions in the table at most. FirstWindow is the
	// number before the group's protocol level has Window, and that which streams lose last if memory is short.
	Window      = 4096
	FirstWindow = 1024
	// Named and Unnamed are how many streams of each kind a project may have.
	Named   = 64
	Unnamed = 1024
	// NamedIdle and UnnamedIdle are how long a stream must be idle before it makes room for another, in milliseconds of
	// the table's age. A master sends a part again for some 20 s.
	NamedIdle   = 7 * 24 * 60 * 60 * 1000
	UnnamedIdle = 60 * 1000
	// MaxBytes bounds the memory of all streams, as [Table.Bytes] counts it.
	MaxBytes = 16 << 20
)

// The memory of a stream without its runs, and of a run, in bytes.
const (
	streamBytes = 512
	runBytes    = 16
)

// Name identifies a stream among those of all projects.
type Name [16]byte

// Run is a range of consecutive positions: Count records from (Block, Offset) on.
type Run struct {
	Block         uint64
	Offset, Count uint32
}

// follows reports whether a run begins where r ends, in the same block.
func (r Run) follows(next Run) bool {
	return r.Block == next.Block && uint64(r.Offset)+uint64(r.Count) == uint64(next.Offset)
}

// Image is one stream, as it was when the image was taken.
type Image struct {
	Name    Name
	Project uint32
	ID      string // "" if it is not known
	Named   bool   // a client has chosen its id
	Used    uint64 // the age of the table when it was used last, in milliseconds
	Time    uint64 // the time of the table then, in unix milliseconds; 0 if it is not known
	Last    uint64 // the number of its newest record, 0 if it has none
	// Token is the id of the token of the newest record. That token has sent all records from the number Own on.
	Token uint32
	Own   uint64
	// The positions of its newest records, the newest last. Skip records at the beginning of the first run are no
	// longer in the window.
	Runs []Run
	Tail Run // behind Runs; its Count is 0 only if the stream has no record
	Skip uint32
}

// Each calls f for each run of the image, in order, without the records that are no longer in the window.
func (m *Image) Each(f func(Run)) {
	skip := m.Skip
	each := func(r Run) {
		if r.Count > skip {
			f(Run{Block: r.Block, Offset: r.Offset + skip, Count: r.Count - skip})
		}
		skip = 0
	}
	for _, r := range m.Runs {
		each(r)
	}
	each(m.Tail)
}

// stream is an image with its places in the lists of the table.
type stream struct {
	Image
	held   uint64 // records that have positions
	places [5]*list.Element
}

// The lists that a stream is in, by its places. The last two have only streams that can lose positions: all of them,
// and those that have positions of more than [FirstWindow] records.
const (
	inAll = iota
	inKind
	inProject
	inWide
	inLong
)

// idle reports whether a stream may make room for another at an age of the table.
func (s *stream) idle(age uint64) bool {
	most := uint64(UnnamedIdle)
	if s.Named {
		most = NamedIdle
	}
	return s.unused(age) >= most
}

// unused is the time since the last use, in milliseconds.
func (s *stream) unused(age uint64) uint64 { return age - min(s.Used, age) }

// oldest is the number of the first record that has a position.
func (s *stream) oldest() uint64 { return s.Last - s.held + 1 }

// add appends a run, and keeps the positions of the newest records, as many as a window.
func (s *stream) add(r Run, window uint64) {
	s.Last += uint64(r.Count)
	s.held += uint64(r.Count)
	switch {
	case s.Tail.Count == 0:
		s.Tail = r
	case s.Tail.follows(r):
		s.Tail.Count += r.Count
	default:
		s.Runs, s.Tail = append(s.Runs, s.Tail), r
	}
	s.keep(window)
}

// keep drops the positions of all records but the newest, as many as a window.
func (s *stream) keep(window uint64) {
	for s.held > window {
		first := &s.Tail
		if len(s.Runs) > 0 {
			first = &s.Runs[0]
		}
		drop := min(uint64(first.Count-s.Skip), s.held-window)
		s.held -= drop
		s.Skip += uint32(drop)
		if s.Skip < first.Count {
			break
		}
		s.Runs, s.Skip = s.Runs[1:], 0 // the tail has more: it alone is not over the window's end
	}
}

func (s *stream) bytes() int { return streamBytes + runBytes*len(s.Runs) }

// kinds are lists of streams: those without and with an id that a client has chosen. Each has the stream that was used
// least recently first.
type kinds [2]list.List

func (k *kinds) of(named bool) *list.List {
	if named {
		return &k[1]
	}
	return &k[0]
}

// Table has the streams. Make one with [New].
type Table struct {
	byName map[Name]*stream
	// Lists of *stream, the one that was used least recently first: see inAll, inWide and inLong.
	all, wide, long list.List
	kinds           kinds
	projects        map[uint32]*kinds
	bytes           int
}

// New returns an empty table.
func New() *Table {
	return &Table{byName: map[Name]*stream{}, projects: map[uint32]*kinds{}}
}

// Len is the number of streams.
func (t *Table) Len() int { return len(t.byName) }

// Bytes is the memory of the table, in bytes, without the reserve of slices and maps.
func (t *Table) Bytes() int { return t.bytes }

// State is what the table has of a stream, without the positions.
type State struct {
	ID     string
	Named  bool   // a client has chosen the id
	Time   uint64 // of its last use, in unix milliseconds
	Last   uint64 // the number of its newest record, 0 if it has none
	Oldest uint64 // the number of the oldest record whose position is known, 1 if it has none
	Token  uint32 // see [Image]
	Own    uint64
}

func (s *stream) state() State {
	return State{
		ID: s.ID, Named: s.Named, Time: s.Time, Last: s.Last, Oldest: s.oldest(), Token: s.Token, Own: s.Own,
	}
}

// Find returns the state of a stream.
func (t *Table) Find(name Name) (State, bool) {
	s := t.byName[name]
	if s == nil {
		return State{}, false
	}
	return s.state(), true
}

// Of returns the states of a project's streams, in no order.
func (t *Table) Of(project uint32) (all []State) {
	k := t.projects[project]
	if k == nil {
		return nil
	}
	for i := range k {
		for e := k[i].Front(); e != nil; e = e.Next() {
			all = append(all, e.Value.(*stream).state())
		}
	}
	return all
}

// Use describes a use of a stream.
type Use struct {
	Age   uint64 // of the table, in milliseconds; it never falls
	Time  uint64 // of the table, in unix milliseconds
	Token uint32 // the id of the token
	ID    string // the stream's id, if it is given; it counts for a stream that has none
	Named bool   // a client has chosen the id; counts for a new stream only
	// Window is how many records have their positions, at least one; counts for [Table.Add] only.
	Window uint64
}

// Room reports whether a project may have another stream.
func (t *Table) Room(project uint32, u Use) bool {
	idle := func(l *list.List) bool {
		front := l.Front()
		return front != nil && front.Value.(*stream).idle(u.Age)
	}
	if k := t.projects[project]; k != nil && k.of(u.Named).Len() >= most(u.Named) && !idle(k.of(u.Named)) {
		return false
	}
	// All others may lose their positions but not what is left of them then.
	return (len(t.byName)+1)*smallest <= MaxBytes || idle(t.kinds.of(false)) || idle(t.kinds.of(true))
}

// smallest is the memory of a stream that can lose no more positions, in bytes.
const smallest = streamBytes

func most(named bool) int {
	if named {
		return Named
	}
	return Unnamed
}

// Positions returns the positions of count records of a stream from a number on. All of them must have positions: see
// [Table.Find]. It makes the stream the one that was used last.
func (t *Table) Positions(name Name, first, count uint64, u Use) []Run {
	s := t.byName[name]
	t.use(s, u)
	var runs []Run
	number := s.oldest()
	s.Each(func(r Run) {
		before := uint64(0)
		if first > number {
			before = min(first-number, uint64(r.Count))
		}
		n := min(uint64(r.Count)-before, count)
		number += uint64(r.Count)
		if n > 0 {
			runs = append(runs, Run{Block: r.Block, Offset: r.Offset + uint32(before), Count: uint32(n)})
			count -= n
		}
	})
	return runs
}

// Add appends records to a stream of a project, which begins with them if it is not in the table: see [Table.Room].
// runs are their positions, of at least one record and in order. Other streams are forgotten or lose positions if a
// bound is exceeded.
func (t *Table) Add(project uint32, name Name, runs []Run, u Use) {
	s := t.byName[name]
	if s == nil {
		s = t.begin(project, name, u)
	}
	if s.Token != u.Token {
		s.Token, s.Own = u.Token, s.Last+1
	}
	t.use(s, u)
	t.bytes -= s.bytes()
	for _, r := range runs {
		s.add(r, u.Window)
	}
	t.bytes += s.bytes()
	t.widen(s)
	t.bound(s, u.Age)
}

// Begin adds a stream without a record to a project. It must not be in the table, and there must be room for it: see
// [Table.Room].
func (t *Table) Begin(project uint32, name Name, u Use) {
	s := t.begin(project, name, u)
	t.use(s, u)
	t.bound(s, u.Age)
}

// begin enters a stream without a record, in the place of others if the project has too many.
func (t *Table) begin(project uint32, name Name, u Use) *stream {
	s := &stream{Image: Image{Name: name, Project: project, ID: u.ID, Named: u.Named, Token: u.Token, Own: 1}}
	t.enter(s)
	of := t.projects[project].of(s.Named)
	for of.Len() > most(s.Named) {
		t.forget(of.Front().Value.(*stream))
	}
	return s
}

// bound frees memory if the table takes too much.
func (t *Table) bound(but *stream, age uint64) {
	for t.bytes > MaxBytes && t.shrink(but, age) {
	}
}

// shrink frees memory, but not that of the newest record of a stream. It returns false if there is none to be freed. It
// takes from streams that rest before it takes from others, and from long ones what is over [FirstWindow] before all.
func (t *Table) shrink(but *stream, age uint64) bool {
	unnamed, named := first(t.kinds.of(false)), first(t.kinds.of(true))
	long, wide := first(&t.long), first(&t.wide)
	if long == but {
		long = nil // it was used last, so there is no other
	}
	switch {
	case unnamed != nil && unnamed != but && unnamed.idle(age):
		t.forget(unnamed)
	case long != nil && long.unused(age) >= UnnamedIdle:
		t.narrow(long, FirstWindow)
	case wide != nil && wide.unused(age) >= UnnamedIdle:
		t.narrow(wide, 0)
	case long != nil:
		t.narrow(long, FirstWindow)
	case wide != nil:
		t.narrow(wide, 0)
	case named != nil && named != but && named.idle(age):
		t.forget(named)
	default:
		return false
	}
	return true
}

// first returns the first stream of a list, nil for none.
func first(l *list.List) *stream {
	if e := l.Front(); e != nil {
		return e.Value.(*stream)
	}
	return nil
}

// narrow takes all positions from a stream but those of its newest records, as many as a window, and of its newest run.
func (t *Table) narrow(s *stream, window uint64) {
	t.bytes -= s.bytes()
	if window > uint64(s.Tail.Count) {
		s.keep(window)
		s.Runs = slices.Clone(s.Runs) // the dropped ones free their memory
	} else {
		s.Runs, s.Skip, s.held = nil, 0, uint64(s.Tail.Count)
	}
	t.bytes += s.bytes()
	t.widen(s)
}

// widen enters a stream with the last use among those that can lose positions, or takes it out.
func (t *Table) widen(s *stream) {
	wide := len(s.Runs) > 0
	t.list(s, inWide, &t.wide, wide)
	t.list(s, inLong, &t.long, wide && s.held > FirstWindow)
}

// list enters a stream at the end of a list, or takes it out.
func (t *Table) list(s *stream, place int, l *list.List, in bool) {
	switch {
	case in && s.places[place] == nil:
		s.places[place] = l.PushBack(s)
	case !in && s.places[place] != nil:
		l.Remove(s.places[place])
		s.places[place] = nil
	}
}

// lists are the lists that a stream may be in, by its places.
func (t *Table) lists(s *stream) [5]*list.List {
	return [...]*list.List{
		inAll: &t.all, inKind: t.kinds.of(s.Named), inProject: t.projects[s.Project].of(s.Named), inWide: &t.wide,
		inLong: &t.long,
	}
}

// enter adds a stream as the one that was used last.
func (t *Table) enter(s *stream) {
	if t.projects[s.Project] == nil {
		t.projects[s.Project] = &kinds{}
	}
	t.byName[s.Name] = s
	lists := t.lists(s)
	for i := range inWide {
		s.places[i] = lists[i].PushBack(s)
	}
	t.widen(s)
	t.bytes += s.bytes()
}

func (t *Table) use(s *stream, u Use) {
	s.Used, s.Time = max(s.Used, u.Age), max(s.Time, u.Time)
	if s.ID == "" {
		s.ID = u.ID
	}
	for i, l := range t.lists(s) {
		if s.places[i] != nil {
			l.MoveToBack(s.places[i])
		}
	}
}

func (t *Table) forget(s *stream) {
	delete(t.byName, s.Name)
	for i, l := range t.lists(s) {
		if s.places[i] != nil {
			l.Remove(s.places[i])
		}
	}
	if k := t.projects[s.Project]; k.of(true).Len()+k.of(false).Len() == 0 {
		delete(t.projects, s.Project)
	}
	t.bytes -= s.bytes()
}

// Remove forgets a stream, and reports whether there was one.
func (t *Table) Remove(name Name) bool {
	s := t.byName[name]
	if s != nil {
		t.forget(s)
	}
	return s != nil
}

// ForgetIf forgets the streams of which a known position is in a run that goes reports, and those without a position.
// It returns their number.
func (t *Table) ForgetIf(goes func(Run) bool) (forgotten int) {
	for e := t.all.Front(); e != nil; {
		s := e.Value.(*stream)
		e = e.Next()
		gone := s.held == 0
		s.Each(func(r Run) { gone = gone || goes(r) })
		if gone {
			t.forget(s)
			forgotten++
		}
	}
	return forgotten
}

// Images returns all streams, the one that was used least recently first. They stay valid when the table changes.
func (t *Table) Images() []Image {
	images := make([]Image, 0, t.all.Len())
	for e := t.all.Front(); e != nil; e = e.Next() {
		images = append(images, e.Value.(*stream).Image)
	}
	return images
}

// Restore adds a stream that a snapshot has, as the one that was used last: an image without positions, and the
// positions of its newest records.
func (t *Table) Restore(m Image, runs []Run) error {
	name, last := m.Name, m.Last
	if t.byName[name] != nil {
		return fmt.Errorf("stream %x occurs twice", name)
	}
	held := uint64(0)
	for i, r := range runs {
		if held += uint64(r.Count); r.Count == 0 || i > 0 && runs[i-1].follows(r) {
			return fmt.Errorf("stream %x: run %d is empty, or continues the one before it", name, i)
		}
	}
	if held == 0 && last > 0 || held > min(Window, last) {
		return fmt.Errorf("stream %x: %d positions of %d records", name, held, last)
	}
	if m.Own == 0 || m.Own > max(1, last) {
		return fmt.Errorf("stream %x: its newest token has sent the records from %d on, of %d", name, m.Own, last)
	}
	s := &stream{Image: m, held: held}
	if n := len(runs); n > 0 {
		s.Runs, s.Tail = runs[:n-1], runs[n-1]
	}
	t.enter(s)
	return nil
}
