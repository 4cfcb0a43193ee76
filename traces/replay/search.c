#include "traces/replay/search.h"

#include <math.h>

enum status search_rate(double first, search_probe *probe, void *context, struct error *err)
{
    double passed = 0, failed = INFINITY, rate = first;
    bool go_on = true;
    for (int i = 0; i < SEARCH_PROBES && go_on; i++) {
        bool reached = false;
        enum status status = probe(context, rate, &reached, &go_on, err);
        if (status) return status;
        if (reached)
            passed = rate;
        else
            failed = rate;
        if (failed <= passed * SEARCH_RATIO || (passed == 0 && i + 1 == SEARCH_DOWN)) break;
        rate = passed == 0 ? failed / 2 : isinf(failed) ? passed * 2 : sqrt(passed * failed);
    }
    return ST_OK;
}
