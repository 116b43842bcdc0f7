package chain

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// set is the set of blocks in a list of ranges. It is a simple model of the functions.
type set map[uint64]bool

func setOf(list []Range) set {
	s := set{}
	for _, r := range list {
		for b := r.From; b < r.To; b++ {
			s[b] = true
		}
	}
	return s
}

func (s set) equals(t *testing.T, what string, list []Range) {
	t.Helper()
	for i, r := range list {
		if r.From >= r.To || i > 0 && r.From <= list[i-1].To {
			t.Fatalf("%s: %v does not ascend with gaps between", what, list)
		}
	}
	if uint64(len(s)) != CountBlocks(list) {
		t.Fatalf("%s: %v, want %d blocks", what, list, len(s))
	}
	for b := range setOf(list) {
		if !s[b] {
			t.Fatalf("%s: %v holds %d", what, list, b)
		}
	}
}

func TestRangesAreSets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func() (list []Range) {
		for range rnd.IntN(6) {
			from := uint64(rnd.IntN(30))
			list = AddRange(list, Range{From: from, To: from + uint64(rnd.IntN(6))})
		}
		return list
	}
	for range 3000 {
		a, b := random(), random()
		before := slices.Clone(a)
		from := uint64(rnd.IntN(30))
		r := Range{From: from, To: from + uint64(rnd.IntN(8))}
		with := setOf(a)
		for block := r.From; block < r.To; block++ {
			with[block] = true
		}
		with.equals(t, "add", AddRange(a, r))
		cut, common := set{}, set{}
		for block := range setOf(a) {
			if setOf(b)[block] {
				common[block] = true
			} else {
				cut[block] = true
			}
		}
		cut.equals(t, "cut", CutRanges(a, b))
		common.equals(t, "common", CommonRanges(a, b))
		if !slices.Equal(a, before) {
			t.Fatal("a list that was given was changed")
		}
		for block := range uint64(40) {
			if got := slices.ContainsFunc(a, func(r Range) bool { return r.Holds(block) }); got != setOf(a)[block] {
				t.Fatalf("%v holds %d: %v", a, block, got)
			}
		}
	}
}

func TestBoundRanges(t *testing.T) {
	list := []Range{{0, 1}, {5, 6}, {7, 9}, {100, 101}}
	for most, want := range map[int][]Range{
		4: list,
		3: {{0, 1}, {5, 9}, {100, 101}},
		2: {{0, 9}, {100, 101}},
		1: {{0, 101}},
	} {
		if got := BoundRanges(list, most); !slices.Equal(got, want) {
			t.Errorf("%d: %v, want %v", most, got, want)
		}
	}
	if !slices.Equal(list, []Range{{0, 1}, {5, 6}, {7, 9}, {100, 101}}) {
		t.Error("the list was changed")
	}
}
