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
	project   map[Name]uint32
	order     []Name // the one that was used least recently first
}

func (m *model) use(n Name) {
	m.order = append(slices.DeleteFunc(m.order, func(o Name) bool { return o == n }), n)
}

func (m *model) add(project uint32, n Name, runs []Run) {
	m.use(n)
	m.project[n] = project
	for _, r := range runs {
		for i := range r.Count {
			m.positions[n] = append(m.positions[n], Run{r.Block, r.Offset + i, 1})
		}
	}
	of := func(o Name) bool { return m.project[o] == project }
	count := 0
	for _, o := range m.order {
		if of(o) {
			count++
		}
	}
	if count > PerProject {
		i := slices.IndexFunc(m.order, of)
		delete(m.positions, m.order[i])
		m.order = slices.Delete(m.order, i, i+1)
	}
}

// TestRandom compares a table with a model.
func TestRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	table, m := New(), &model{positions: map[Name][]Run{}, project: map[Name]uint32{}}
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
	for step := range 30_000 {
		project := uint32(rng.IntN(2))
		n := name(int(project)*1000 + rng.IntN(PerProject+5))
		if rng.IntN(3) > 0 { // so that some grow beyond the window
			n = name(int(project)*1000 + rng.IntN(3))
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
		table.Add(project, n, runs)
		m.add(project, n, runs)
		look := m.order[rng.IntN(len(m.order))]
		last, oldest, ok := table.Find(look)
		all := m.positions[look]
		held := min(Window, len(all))
		if !ok || last != uint64(len(all)) || last-oldest+1 != uint64(held) {
			t.Fatalf("step %d: %d to %d, %v; want the newest %d of %d", step, oldest, last, ok, held, len(all))
		}
		from := oldest + uint64(rng.IntN(held))
		count := 1 + uint64(rng.IntN(int(last-from+1)))
		var got []Run
		for _, r := range table.Positions(look, from, count) {
			for i := range r.Count {
				got = append(got, Run{r.Block, r.Offset + i, 1})
			}
		}
		m.use(look)
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
				if err := back.Restore(image.Project, image.Name, image.Last, list([]Image{image})[0]); err != nil {
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
	const filled = MaxBytes/(streamBytes+runBytes*Window) + 50
	for n := range filled {
		for i := range 2 * Window {
			table.Add(uint32(n), name(n), []Run{{Block: uint64(i), Count: 1}})
		}
	}
	if table.Bytes() > MaxBytes || table.Bytes() < MaxBytes*9/10 {
		t.Errorf("the table takes %d bytes, the bound is %d", table.Bytes(), MaxBytes)
	}
	for n := range filled {
		_, _, known := table.Find(name(n))
		if want := n >= filled-table.Len(); known != want {
			t.Errorf("stream %d is known: %v", n, known)
		}
	}
	// Slices keep a reserve, and positions that left the window until they grow.
	if used := heap() - before; used > 5*MaxBytes/2 {
		t.Errorf("the heap has %d bytes for a table of %d", used, table.Bytes())
	}
	small := New()
	for n := range 2 * MaxBytes / streamBytes {
		small.Add(uint32(n), name(n), []Run{{Count: 1}})
	}
	if small.Bytes() > MaxBytes || len(small.projects) != small.Len() {
		t.Errorf("%d streams of %d projects take %d bytes", small.Len(), len(small.projects), small.Bytes())
	}
	runtime.KeepAlive(table)
}

func TestRestoreRefuses(t *testing.T) {
	for what, image := range map[string]struct {
		last uint64
		runs []Run
	}{
		"no positions":        {1, nil},
		"an empty run":        {5, []Run{{1, 0, 1}, {2, 0, 0}}},
		"more than it has":    {1, []Run{{1, 0, 2}}},
		"more than a window":  {2 * Window, []Run{{1, 0, Window + 1}}},
		"runs that are one":   {5, []Run{{1, 0, 1}, {1, 1, 1}}},
		"counts that overrun": {1 << 63, []Run{{1, 0, 1<<32 - 1}, {2, 0, 1<<32 - 1}}},
	} {
		table := New()
		if err := table.Restore(1, name(1), image.last, image.runs); err == nil || table.Len() != 0 {
			t.Errorf("%s: accepted, %d streams", what, table.Len())
		}
	}
	table := New()
	for _, want := range []string{"<nil>", fmt.Sprintf("stream %x occurs twice", name(1))} {
		if err := table.Restore(1, name(1), 9, []Run{{1, 0, 2}}); fmt.Sprint(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestForgetIf(t *testing.T) {
	table := New()
	table.Add(1, name(1), []Run{{1, 0, 5}})
	table.Add(1, name(2), []Run{{1, 5, 5}, {2, 0, 1}})
	if n := table.ForgetIf(func(r Run) bool { return r.Block == 2 }); n != 1 || table.Len() != 1 {
		t.Errorf("%d were forgotten, %d are left", n, table.Len())
	}
	if _, _, ok := table.Find(name(1)); !ok {
		t.Error("the wrong one was forgotten")
	}
}
