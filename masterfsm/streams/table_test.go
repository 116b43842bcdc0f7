package streams

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"
)

func name(n int) (m Name) {
	binary.BigEndian.PutUint64(m[:], uint64(n)+1)
	return m
}

// model is what a table should have: every position of every stream that is not forgotten, and the order of use.
type model struct {
	positions map[Name][]Run // of one record each
	tokens    map[Name][]uint32
	project   map[Name]uint32
	named     map[Name]bool
	used      map[Name]uint64
	order     []Name // the one that was used least recently first
}

func newModel() *model {
	return &model{positions: map[Name][]Run{}, tokens: map[Name][]uint32{}, project: map[Name]uint32{},
		named: map[Name]bool{}, used: map[Name]uint64{}}
}

func (m *model) use(n Name, age uint64) {
	m.order = append(slices.DeleteFunc(m.order, func(o Name) bool { return o == n }), n)
	m.used[n] = age
}

func (m *model) remove(n Name) {
	m.order = slices.DeleteFunc(m.order, func(o Name) bool { return o == n })
	delete(m.positions, n)
	delete(m.tokens, n)
}

// room returns whether a new stream has room, and the stream that must make it.
func (m *model) room(project uint32, u Use) (instead *Name, ok bool) {
	limit, idle := Unnamed, uint64(UnnamedIdle)
	if u.Named {
		limit, idle = Named, NamedIdle
	}
	var of []Name
	for _, o := range m.order {
		if m.project[o] == project && m.named[o] == u.Named {
			of = append(of, o)
		}
	}
	if len(of) < limit {
		return nil, true
	}
	return &of[0], u.Age-m.used[of[0]] >= idle
}

func (m *model) add(project uint32, n Name, runs []Run, u Use) {
	if m.positions[n] == nil {
		if instead, _ := m.room(project, u); instead != nil {
			m.remove(*instead)
		}
		m.project[n], m.named[n] = project, u.Named
	}
	m.use(n, u.Age)
	for _, r := range runs {
		for i := range r.Count {
			m.positions[n] = append(m.positions[n], Run{r.Block, r.Offset + i, 1})
			m.tokens[n] = append(m.tokens[n], u.Token)
		}
	}
}

// own is the number of the first of the newest records that one token has sent.
func (m *model) own(n Name) uint64 {
	tokens := m.tokens[n]
	own := len(tokens)
	for own > 1 && tokens[own-2] == tokens[len(tokens)-1] {
		own--
	}
	return uint64(own)
}

// TestRandom compares a table with a model.
func TestRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	table, m := New(), newModel()
	refused, age := map[bool]int{}, uint64(0)
	block, offset := uint64(1), uint32(0)
	var taken []Image
	var want [][]Run
	list := func(images []Image) (all [][]Run) {
		for i := range images {
			var runs []Run
			images[i].Each(func(r Run) { runs = append(runs, r) })
			all = append(all, runs)
		}
		return all
	}
	for step := range 12_000 {
		project := uint32(rng.IntN(2))
		u := Use{Named: rng.IntN(2) == 0, Token: uint32(rng.IntN(20) / 19), Window: Window}
		n := name(int(project)*10_000 + rng.IntN(20*Unnamed))
		if u.Named {
			n = name(int(project)*10_000 + 5000 + rng.IntN(Named+5))
		}
		if rng.IntN(3) == 0 { // so that some grow beyond the window
			n = name(int(project)*10_000 + 5000 + rng.IntN(3))
			u.Named = true
		}
		switch age += uint64(rng.IntN(10)); rng.IntN(10_000) {
		case 0:
			age += UnnamedIdle
		case 1:
			age += NamedIdle
		}
		u.Age = age
		if m.positions[n] == nil {
			_, ok := m.room(project, u)
			if table.Room(project, u) != ok {
				t.Fatalf("step %d: room for another stream: %v, want %v", step, !ok, ok)
			}
			if !ok {
				refused[u.Named]++
				continue
			}
		}
		var runs []Run
		for range 1 + rng.IntN(3) {
			count := uint32(1 + rng.IntN(60))
			if rng.IntN(50) == 0 {
				count = Window + 5
			}
			runs = append(runs, Run{block, offset, count})
			if offset += count; rng.IntN(3) == 0 {
				block, offset = block+1, 0
			} else if rng.IntN(3) == 0 {
				offset += 3
			}
		}
		table.Add(project, n, runs, u)
		m.add(project, n, runs, u)
		if rng.IntN(300) == 0 {
			gone := m.order[rng.IntN(len(m.order))]
			m.remove(gone)
			if !table.Remove(gone) || table.Remove(gone) {
				t.Fatalf("step %d: the stream was not there, or is still", step)
			}
		}
		if len(m.order) == 0 {
			continue
		}
		look := m.order[rng.IntN(len(m.order))]
		state, ok := table.Find(look)
		last, oldest := state.Last, state.Oldest
		all := m.positions[look]
		if tokens := m.tokens[look]; state.Own != m.own(look) || state.Token != tokens[len(tokens)-1] {
			t.Fatalf("step %d: %+v, want the newest token to begin at %d", step, state, m.own(look))
		}
		held := min(Window, len(all))
		if !ok || last != uint64(len(all)) || last-oldest+1 != uint64(held) {
			t.Fatalf("step %d: %d to %d, %v; want the newest %d of %d", step, oldest, last, ok, held, len(all))
		}
		from := oldest + uint64(rng.IntN(held))
		count := 1 + uint64(rng.IntN(int(last-from+1)))
		var got []Run
		for _, r := range table.Positions(look, from, count, Use{Age: age}) {
			for i := range r.Count {
				got = append(got, Run{r.Block, r.Offset + i, 1})
			}
		}
		m.use(look, age)
		if want := all[from-1 : from-1+count]; !slices.Equal(got, want) {
			t.Fatalf("step %d: numbers %d to %d are at %v, want %v", step, from, from+count-1, got, want)
		}
		if table.Len() != len(m.order) {
			t.Fatalf("step %d: %d streams, want %d", step, table.Len(), len(m.order))
		}
		switch rng.IntN(200) {
		case 0: // restored from its images
			back := New()
			for i, image := range table.Images() {
				if image.Name != m.order[i] {
					t.Fatalf("step %d: stream %d is %x, want %x", step, i, image.Name, m.order[i])
				}
				runs := list([]Image{image})[0]
				image.Runs, image.Tail, image.Skip = nil, Run{}, 0
				if err := back.Restore(image, runs); err != nil {
					t.Fatal(err)
				}
			}
			if !reflect.DeepEqual(list(back.Images()), list(table.Images())) {
				t.Fatalf("step %d: the restored table differs", step)
			}
			table = back
		case 1:
			taken = table.Images()
			want = list(taken)
		}
		if step%50 == 0 && !reflect.DeepEqual(list(taken), want) {
			t.Fatalf("step %d: images changed after they were taken", step)
		}
	}
	if refused[true] == 0 || refused[false] == 0 {
		t.Errorf("refused were %d named streams and %d others: not all was tested", refused[true], refused[false])
	}
}

// TestBounds fills a table with streams that take the most memory: their runs do not continue each other.
func TestBounds(t *testing.T) {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	table := New()
	const filled = MaxBytes/(streamBytes+runBytes*FirstWindow) + 50
	for n := range filled {
		for i := range 2 * Window {
			table.Add(uint32(n), name(n), []Run{{Block: uint64(i), Count: 1}}, Use{Named: n%2 == 0, Window: Window})
		}
	}
	if table.Bytes() > MaxBytes || table.Bytes() < MaxBytes*9/10 {
		t.Errorf("the table takes %d bytes, the bound is %d", table.Bytes(), MaxBytes)
	}
	// The streams that were used least recently have lost most, and the one that was used last nothing.
	narrow, before1 := 0, uint64(1)
	for n := range filled {
		s, known := table.Find(name(n))
		if !known || s.Last != 2*Window {
			t.Fatalf("stream %d is known: %v, at %d", n, known, s.Last)
		}
		held := s.Last - s.Oldest + 1
		if want := []uint64{1, FirstWindow, Window}; held < before1 || !slices.Contains(want, held) {
			t.Errorf("stream %d has %d positions, the one before it %d", n, held, before1)
		}
		if before1 = held; held == 1 {
			narrow++
		}
	}
	if before1 != Window {
		t.Errorf("the stream that was used last has %d positions", before1)
	}
	// Slices keep a reserve, and positions that left the window until they grow.
	if used := heap() - before; used > 5*MaxBytes/2 || narrow == 0 {
		t.Errorf("the heap has %d bytes for a table of %d; %d streams lost positions", used, table.Bytes(), narrow)
	}
	runtime.KeepAlive(table)
	before = heap()
	small := New()
	for n := range 2 * MaxBytes / smallest {
		room := small.Room(uint32(n), Use{})
		if want := n < MaxBytes/smallest; room != want {
			t.Fatalf("room for stream %d: %v", n, room)
		}
		if room {
			small.Add(uint32(n), name(n), []Run{{Count: 1}}, Use{ID: fmt.Sprintf("%064d", n), Window: Window})
		}
	}
	if small.Bytes() > MaxBytes || len(small.projects) != small.Len() {
		t.Errorf("%d streams of %d projects take %d bytes", small.Len(), len(small.projects), small.Bytes())
	}
	if used := heap() - before; used > 5*MaxBytes/2 {
		t.Errorf("the heap has %d bytes for %d streams", used, small.Len())
	}
	for i := range 3 * Window { // the table is full: a stream loses its own positions
		small.Add(0, name(0), []Run{{Block: uint64(i), Count: 1}}, Use{Age: UnnamedIdle - 1, Window: Window})
		if s, known := small.Find(name(0)); small.Bytes() > MaxBytes || !known || s.Last != uint64(i+2) {
			t.Fatalf("%d bytes, the stream is known: %v, %+v", small.Bytes(), known, s)
		}
	}
	if !small.Room(1<<20, Use{Age: UnnamedIdle}) {
		t.Error("idle streams leave no room")
	}
	small.Add(1<<20, name(1<<20), []Run{{Count: 1}}, Use{Age: UnnamedIdle, Window: Window})
	if _, known := small.Find(name(1)); small.Bytes() > MaxBytes || known {
		t.Errorf("%d bytes, the idle stream is known: %v", small.Bytes(), known)
	}
	runtime.KeepAlive(small)
}

// TestIdleStreamsLosePositionsFirst fills a table with streams that are idle then. Two that are in use keep the
// positions of a whole window each.
func TestIdleStreamsLosePositionsFirst(t *testing.T) {
	table := New()
	idle := 0
	for ; table.Bytes() < MaxBytes-runBytes*FirstWindow-streamBytes; idle++ {
		for i := range FirstWindow {
			run := Run{Block: uint64(2 * i), Count: 1}
			table.Add(uint32(idle), name(idle), []Run{run}, Use{Named: true, Window: Window})
		}
	}
	used := []Name{name(idle), name(idle + 1)}
	for i := range 2 * Window {
		for _, n := range used {
			u := Use{Named: true, Window: Window, Age: UnnamedIdle}
			table.Add(1<<20, n, []Run{{Block: uint64(2 * i), Count: 1}}, u)
		}
	}
	for _, n := range used {
		if s, _ := table.Find(n); s.Last-s.Oldest+1 != Window {
			t.Errorf("a stream in use has %d positions", s.Last-s.Oldest+1)
		}
	}
	lost := 0
	for n := range idle {
		if s, _ := table.Find(name(n)); s.Oldest > 1 {
			lost++
		}
	}
	if lost == 0 || lost == idle || table.Bytes() > MaxBytes {
		t.Errorf("%d of %d idle streams have lost positions, the table takes %d bytes", lost, idle, table.Bytes())
	}
}

func TestRestoreRefuses(t *testing.T) {
	for what, image := range map[string]struct {
		last uint64
		runs []Run
	}{
		"no positions":        {1, nil},
		"positions of none":   {0, []Run{{1, 0, 1}}},
		"an empty run":        {5, []Run{{1, 0, 1}, {2, 0, 0}}},
		"more than it has":    {1, []Run{{1, 0, 2}}},
		"more than a window":  {2 * Window, []Run{{1, 0, Window + 1}}},
		"runs that are one":   {5, []Run{{1, 0, 1}, {1, 1, 1}}},
		"counts that overrun": {1 << 63, []Run{{1, 0, 1<<32 - 1}, {2, 0, 1<<32 - 1}}},
	} {
		table := New()
		m := Image{Project: 1, Name: name(1), Last: image.last, Own: 1}
		if err := table.Restore(m, image.runs); err == nil || table.Len() != 0 {
			t.Errorf("%s: accepted, %d streams", what, table.Len())
		}
	}
	table := New()
	for _, own := range []uint64{0, 10} {
		m := Image{Project: 1, Name: name(1), Last: 9, Own: own}
		if err := table.Restore(m, []Run{{1, 0, 2}}); err == nil || table.Len() != 0 {
			t.Errorf("a token from number %d on of 9: accepted", own)
		}
	}
	for _, want := range []string{"<nil>", fmt.Sprintf("stream %x occurs twice", name(1))} {
		m := Image{Project: 1, Name: name(1), Last: 9, Own: 9}
		if err := table.Restore(m, []Run{{1, 0, 2}}); fmt.Sprint(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestForgetIf(t *testing.T) {
	table := New()
	table.Add(1, name(1), []Run{{1, 0, 5}}, Use{Window: Window})
	table.Add(1, name(2), []Run{{1, 5, 5}, {2, 0, 1}}, Use{Window: Window})
	if n := table.ForgetIf(func(r Run) bool { return r.Block == 2 }); n != 1 || table.Len() != 1 {
		t.Errorf("%d were forgotten, %d are left", n, table.Len())
	}
	if _, ok := table.Find(name(1)); !ok {
		t.Error("the wrong one was forgotten")
	}
	table.Begin(1, name(3), Use{})
	if n := table.ForgetIf(func(Run) bool { return false }); n != 1 || table.Len() != 1 {
		t.Errorf("%d without a record were forgotten, %d are left", n, table.Len())
	}
}

// TestBegin checks a stream without a record: it counts, it is restored, and its first record is number 1.
func TestBegin(t *testing.T) {
	table := New()
	for n := range Unnamed + 1 {
		age := uint64(0)
		if n == Unnamed {
			if table.Room(1, Use{Age: UnnamedIdle - 1, Window: Window}) {
				t.Error("a stream more than a project may have, and none is idle")
			}
			age = UnnamedIdle
		}
		table.Begin(1, name(n), Use{ID: fmt.Sprint("_", n), Age: age, Time: age + 7})
	}
	if _, ok := table.Find(name(0)); ok || table.Len() != Unnamed || len(table.Of(1)) != Unnamed || table.Of(2) != nil {
		t.Errorf("%d streams, the idle one is known: %v", table.Len(), ok)
	}
	back := New()
	for _, m := range table.Images() {
		if err := back.Restore(m, nil); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(back.Images(), table.Images()) || back.Bytes() != table.Bytes() {
		t.Error("the restored table differs")
	}
	want := State{ID: "_5", Time: 7, Oldest: 1, Own: 1}
	if got, ok := back.Find(name(5)); !ok || got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	back.Add(1, name(5), []Run{{1, 0, 3}}, Use{Token: 4, Time: 9, Window: Window})
	want = State{ID: "_5", Time: 9, Last: 3, Oldest: 1, Token: 4, Own: 1}
	if got, _ := back.Find(name(5)); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
