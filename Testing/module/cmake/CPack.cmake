message(STATUS "stub: package ${PROJECT_NAME}")
