package diagnose

// Rows returns the patterns of the table of causes, each with its cause.
func Rows() map[string]Cause {
	all := map[string]Cause{}
	for _, r := range table {
		for _, p := range r.texts {
			all[string(p)] = r.cause
		}
	}
	return all
}

// Matches tells which pattern of the table is the first that knows a text.
func Matches(text string) string {
	for _, r := range table {
		for _, p := range r.texts {
			if _, ok := p.match(text); ok {
				return string(p)
			}
		}
	}
	return ""
}
