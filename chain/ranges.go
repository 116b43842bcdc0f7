package chain

import "slices"

// Range is a range of blocks that includes From and excludes To. A list of ranges is in ascending order, and no two
// touch.
type Range struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// Len is the number of blocks.
func (r Range) Len() uint64 { return r.To - r.From }

// Holds reports whether the range contains a block.
func (r Range) Holds(block uint64) bool { return block >= r.From && block < r.To }

// HoldsBlock reports whether a range of a list contains a block.
func HoldsBlock(list []Range, block uint64) bool {
	return slices.ContainsFunc(list, func(r Range) bool { return r.Holds(block) })
}

// AddRange adds a range to a list. The list that was passed does not change.
func AddRange(list []Range, r Range) []Range {
	if r.From >= r.To {
		return list
	}
	from := 0 // the ranges before it end before r
	for from < len(list) && list[from].To < r.From {
		from++
	}
	to := from // those from here on begin behind r
	for ; to < len(list) && list[to].From <= r.To; to++ {
		r = Range{From: min(list[to].From, r.From), To: max(list[to].To, r.To)}
	}
	return slices.Concat(list[:from], []Range{r}, list[to:])
}

// CutRanges returns the list without the blocks of the other list.
func CutRanges(list, without []Range) []Range {
	var out []Range
	for _, r := range list {
		for _, w := range without {
			if w.To <= r.From || w.From >= r.To {
				continue
			}
			if w.From > r.From {
				out = append(out, Range{From: r.From, To: w.From})
			}
			r.From = min(w.To, r.To)
		}
		if r.From < r.To {
			out = append(out, r)
		}
	}
	return out
}

// CommonRanges returns the blocks that are in both lists.
func CommonRanges(a, b []Range) []Range { return CutRanges(a, CutRanges(a, b)) }

// CountBlocks is the number of blocks in a list.
func CountBlocks(list []Range) uint64 {
	var n uint64
	for _, r := range list {
		n += r.Len()
	}
	return n
}

// BoundRanges joins the ranges with the smallest gaps until no more than most are left.
func BoundRanges(list []Range, most int) []Range {
	list = slices.Clone(list)
	for len(list) > most {
		at := 1
		for i := 2; i < len(list); i++ {
			if list[i].From-list[i-1].To < list[at].From-list[at-1].To {
				at = i
			}
		}
		list[at-1].To = list[at].To
		list = slices.Delete(list, at, at+1)
	}
	return list
}
