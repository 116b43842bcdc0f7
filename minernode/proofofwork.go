package minernode

import "github.com/chainstore/chainstore/chain"

// sliceTries is how many nonces a thread tries before it checks whether the job has ended: under a millisecond.
const sliceTries = 4096

// job is the search for one nonce.
type job struct {
	block      uint64
	inner      chain.Hash
	difficulty uint8

	callers int           // guarded by Node.mu
	ended   bool          // guarded by Node.mu
	nonce   uint64        // set before done is closed
	err     error         // set before done is closed
	done    chan struct{} // closed when the job has ended
}

// search is one thread of a job. It tries every cfg.Threads-th slice of the nonces, the first at start, until a nonce
// mines the block or the job ends.
func (n *Node) search(j *job, start uint64) {
	stride := uint64(n.cfg.Threads) * sliceTries
	for ; ; start += stride {
		select {
		case <-j.done:
			return
		default:
		}
		if nonce, found := chain.Solve(j.inner, j.difficulty, start, sliceTries); found {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.end(j, nonce, nil)
			return
		}
	}
}
