package masterfsm

import "fmt"

// Quota bounds what is appended to a project. 0 is no bound.
type Quota struct {
	RecordsPerSecond uint64 `json:"records_per_second"`
	BytesPerSecond   uint64 `json:"bytes_per_second"` // of payloads
	RecordBytes      uint64 `json:"record_bytes"`     // of one payload
}

// maxRate bounds each part of a quota, so that no product of it runs over.
const maxRate = 1 << 40

func (q Quota) check() error {
	if v := max(q.RecordsPerSecond, q.BytesPerSecond, q.RecordBytes); v > maxRate {
		return fmt.Errorf("%w: a quota of %d, the most is %d; 0 is no bound", ErrBadCommand, v, uint64(maxRate))
	}
	return nil
}

// QuotaChange changes the parts of a quota that are not nil.
type QuotaChange struct {
	RecordsPerSecond *uint64 `json:"records_per_second,omitempty"`
	BytesPerSecond   *uint64 `json:"bytes_per_second,omitempty"`
	RecordBytes      *uint64 `json:"record_bytes,omitempty"`
}

func (c QuotaChange) of(q Quota) Quota {
	change := func(part, to *uint64) {
		if to != nil {
			*part = *to
		}
	}
	change(&q.RecordsPerSecond, c.RecordsPerSecond)
	change(&q.BytesPerSecond, c.BytesPerSecond)
	change(&q.RecordBytes, c.RecordBytes)
	return q
}

// Spent is what of a project's quota is spent and not yet given back: two token buckets that hold one second's worth
// each, and get it back evenly as the table's age goes on. In thousandths, since the age counts milliseconds.
type Spent struct {
	Records uint64 `json:"records"`
	Bytes   uint64 `json:"bytes"`
	Age     uint64 `json:"age"` // of the table when this was so: see State.age
}

// Shortage is why a request was refused with [RefusedRate].
type Shortage struct {
	Bytes bool   // it is the bytes a second that did not suffice, not the records
	Limit uint64 // what the quota gives in a second
	Left  uint64 // of it now
	Wait  uint64 // milliseconds until there is enough for the request, at least 1
}

// at is what is spent still when the table is of an age.
func (s Spent) at(q Quota, age uint64) Spent {
	passed := min(age-min(s.Age, age), 1000)
	return Spent{
		Records: s.Records - min(s.Records, passed*q.RecordsPerSecond),
		Bytes:   s.Bytes - min(s.Bytes, passed*q.BytesPerSecond), Age: age,
	}
}

// oversize reports whether a request never fits the quota, however long its client waits: a record that is too large,
// or more than one second's worth in one piece.
func (q Quota) oversize(records, bytes, largest uint64) bool {
	over := func(amount, limit uint64) bool { return limit != 0 && amount > limit }
	return over(largest, q.RecordBytes) || over(records, q.RecordsPerSecond) || over(bytes, q.BytesPerSecond)
}

// spend takes a request that is not oversize from what is left; where there is too little it says so and takes nothing.
func (s Spent) spend(q Quota, records, bytes, age uint64) (Spent, *Shortage) {
	s = s.at(q, age)
	short, ofBytes := shortage(q.RecordsPerSecond, s.Records, records), shortage(q.BytesPerSecond, s.Bytes, bytes)
	if ofBytes != nil && (short == nil || ofBytes.Wait > short.Wait) {
		short = ofBytes
		short.Bytes = true
	}
	if short != nil {
		return s, short
	}
	if q.RecordsPerSecond != 0 {
		s.Records += 1000 * records
	}
	if q.BytesPerSecond != 0 {
		s.Bytes += 1000 * bytes
	}
	return s, nil
}

// shortage is nil where an amount fits what is left of a second's worth of which spent thousandths are gone.
func shortage(rate, spent, amount uint64) *Shortage {
	if rate == 0 || spent+1000*amount <= 1000*rate {
		return nil
	}
	missing := spent + 1000*amount - 1000*rate
	return &Shortage{Limit: rate, Left: (1000*rate - spent) / 1000, Wait: (missing + rate - 1) / rate}
}

// afford takes a request from its project's quota. Where it is refused nothing is taken.
func (s *State) afford(p *Project, records []submitted) (Reason, *Shortage) {
	if p.Quota == (Quota{}) {
		return Accepted, nil
	}
	var bytes, largest uint64
	for i := range records {
		size := uint64(records[i].payloadSize())
		bytes += size
		largest = max(largest, size)
	}
	if p.Quota.oversize(uint64(len(records)), bytes, largest) {
		return RefusedSize, nil
	}
	spent, short := p.Spent.spend(p.Quota, uint64(len(records)), bytes, s.age)
	if short != nil {
		return RefusedRate, short
	}
	p.Spent = spent
	return Accepted, nil
}
