package minernode

// Callers returns the number of calls that wait for the running job.
func (n *Node) Callers() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.job == nil {
		return 0
	}
	return n.job.callers
}
