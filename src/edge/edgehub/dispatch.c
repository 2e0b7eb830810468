#include "edge/edgehub/dispatch.h"

#include "base/str.h"

enum downstream_target downstream_target(const struct message *m, const char **component) {
    bool answer = *m->parent_id != 0;
    *component = NULL;
    if (str_eq(m->operation, "ping") || str_eq(m->operation, "pong") || str_eq(m->operation, "config"))
        return DOWN_CONTROL;
    if (str_eq(m->group, GROUP_RESOURCE) || str_eq(m->group, "func")) {
        *component = MODULE_METAMANAGER; /* also answers that came too late: the cloud may count on us to keep them */
        return answer ? DOWN_ANSWER : DOWN_COMPONENT;
    }
    if (str_eq(m->group, GROUP_TWIN)) {
        *component = MODULE_TWIN;
        return DOWN_COMPONENT;
    }
    if (str_eq(m->group, GROUP_USER)) {
        if (answer)
            return DOWN_ANSWER;
        *component = str_eq(m->source, "router_eventbus")     ? "eventbus"
                     : str_eq(m->source, "router_servicebus") ? "servicebus"
                                                              : NULL;
        return *component ? DOWN_COMPONENT : DOWN_DROP;
    }
    if (str_eq(m->group, "taskmanager")) {
        *component = "taskmanager";
        return DOWN_COMPONENT;
    }
    return DOWN_DROP;
}
