package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Group makes cmd the parent of other commands. Without one of them it shows its help.
func Group(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(commands...)
	return cmd
}

// ExactArgs requires the arguments that the Use line of a command names before its flags. The error asks for what is
// missing and may end with a hint.
func ExactArgs(asked string, hint ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		usage, _, _ := strings.Cut(cmd.Use, " --")
		if len(args) == len(strings.Fields(usage))-1 {
			return nil
		}
		path := strings.TrimPrefix(cmd.Parent().CommandPath()+" ", cmd.Root().Name()+" ")
		return fmt.Errorf("name %s: %s%s%s", asked, path, usage, strings.Join(hint, ""))
	}
}

// MustComplete panics if a completion was set for a flag that the command does not have.
func MustComplete(err error) {
	if err != nil {
		panic(err)
	}
}

// NoFiles stops the shell from completing the values of flags with file names.
func NoFiles(cmd *cobra.Command, flags ...string) {
	for _, name := range flags {
		MustComplete(cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions))
	}
}

// AddJSON adds the flag --json to a command.
func AddJSON(cmd *cobra.Command, to *bool, usage string) {
	cmd.Flags().BoolVar(to, "json", false, usage)
}

// AddClusterToken adds the flag that names the file of the cluster token.
func AddClusterToken(flags *pflag.FlagSet, file *string) {
	flags.StringVar(file, "cluster-token-file", "", "`file` with the cluster token (or "+EnvClusterToken+")")
}

// ReadSecret reads a token from a file, or from an environment variable if no file is named. It returns "" if neither
// is set. Tokens are never arguments, because other users can see a command line.
func ReadSecret(file, variable string) (string, error) {
	if file == "" {
		return strings.TrimSpace(os.Getenv(variable)), nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("%s must hold one token and nothing else", file)
	}
	return token, nil
}
