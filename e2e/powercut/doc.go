// Package powercut computes what a disk may hold after a power cut, from the system calls of real processes.
//
// strace writes the system calls of a process on files, with all data ([Command]). [Disk.Replay] carries them out on a
// model of a folder. For each file and folder the model has two contents: what processes see, and what was on the
// device at the end of the last successful sync. A sync that fails drops the changes before it, as the page cache of
// Linux does: no later sync writes them. So the model covers every file of a role, whoever writes it.
// [Disk.Compare] compares what processes see with the real folder: a system call that the model does not know cannot
// go unnoticed. [Disk.Write] writes a folder as a power cut may leave it.
//
// [DecideSyncs] decides which syncs of a process fail, by the paths of their files. strace can only count system calls,
// and counts those of each thread.
//
// The rules are those of POSIX, which are stricter than most file systems: the content of a file is durable after a
// sync of the file, and its name after a sync of its folder. See Pillai et al., "All File Systems Are Not Created
// Equal", OSDI 2014.
package powercut
